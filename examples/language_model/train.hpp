// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Training one model, with checkpoints; and writing text with it.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "trainer.hpp"

namespace language_model {

/// Returns the exit status, which after Ctrl-C or another such signal is not 0. Throws what goes wrong.
inline int train(const options& o, const corpus& text) {
  if (!o.save.empty()) require_writable(o.save);
  std::optional<checkpoint> start;
  if (!o.resume.empty()) start = checkpoint::read(o.resume);
  if (start && start->header.text != text.identity())
    detail::refuse_checkpoint(o.resume, "it was trained on another text; give its --text");
  const auto config =
      start ? start->header.config
            : configure(o, o.model.value_or(model_kind::moue), static_cast<std::uint64_t>(o.seed.value_or(1)));
  return with_mixture(config, [&](const auto& mixture) {
    trainer run(mixture, config, text);
    if (start) start->restore(run);
    const auto size = run.size();
    std::printf("%s: %s, %s router, seed %llu; %td parameters, %td active, virtual width %td\n",
                std::string(name_of(config.model)).c_str(), std::string(name_of(config.topology)).c_str(),
                std::string(name_of(config.router)).c_str(), static_cast<unsigned long long>(config.seed),
                size.physical, size.active, size.virtual_width);
    std::printf("learning rate %g, warm-up %lld of %lld steps\ntext: %s\n", config.learning_rate,
                static_cast<long long>(config.warm_up), static_cast<long long>(config.steps), text.description.c_str());
    if (start) std::printf("resumed after step %td\n", run.step());
    std::fflush(stdout);
    progress shown("step", run.step(), config.steps, run.model.sizes().tokens());
    while (!run.done() && !interrupted) shown.report(run.advance());
    shown.stop();
    if (!o.save.empty()) save_checkpoint(o.save, run, text.identity());
    const auto saved = moue::io::printable(o.save.native());
    if (!run.done()) {
      std::printf("stopped after step %td of %lld; ", run.step(), static_cast<long long>(config.steps));
      if (o.save.empty())
        std::printf("nothing was saved, for lack of --save\n");
      else
        std::printf("go on with: moue_lm train --resume '%s' --save '%s'%s\n", saved.c_str(), saved.c_str(),
                    o.text.empty() ? "" : (" --text '" + moue::io::printable(o.text.native()) + "'").c_str());
      return interrupted_status();
    }
    const auto held_out = run.evaluate();
    std::printf("held out: %.4f bits per byte; max/mean load %.2f, corrected for exposure %.2f; %zu dead experts\n",
                held_out.bits_per_byte, held_out.load.raw, held_out.load.corrected, held_out.load.dead.size());
    if (!o.save.empty()) std::printf("saved: %s\n", saved.c_str());
    return 0;
  });
}

/// Draws a byte from softmax(logits / temperature).
inline std::uint8_t draw(const matrix<float>& logits, moue::index_t row, std::mt19937_64& random) {
  constexpr double temperature = 0.8;
  const auto z = logits.row(row).cast<double>().array().eval();
  const auto p = ((z - z.maxCoeff()) / temperature).exp().eval();
  double left = static_cast<double>(random() >> 11) * 0x1p-53 * p.sum();
  moue::index_t byte = 0;
  while (byte + 1 < vocabulary && (left -= p(byte)) >= 0) ++byte;
  return static_cast<std::uint8_t>(byte);
}

/// Returns the exit status, as `train` does.
inline int generate(const options& o) {
  const auto from = checkpoint::read(o.resume);
  with_mixture(from.header.config, [&](const auto& mixture) {
    const corpus no_text;
    trainer run(mixture, from.header.config, no_text);
    from.restore(run);
    const shape one{.batch = 1};
    transformer<std::remove_cvref_t<decltype(mixture)>, float> model(mixture, one, moue::mode::inference, 0);
    model.dense = run.model.dense;
    model.experts = run.model.experts;
    std::mt19937_64 random(static_cast<std::uint64_t>(o.seed.value_or(1)));
    // The model always looks at a full window; before the prompt there are empty lines.
    bytes content(static_cast<std::size_t>(batch::window(one.context)), '\n');
    content.insert(content.end(), o.prompt.begin(), o.prompt.end());
    std::fwrite(o.prompt.data(), 1, o.prompt.size(), stdout);
    for (std::int64_t i = 0; i < o.length && !interrupted; ++i) {
      content.push_back(0);  // the target, not yet known
      model.logits({std::span(content).last(static_cast<std::size_t>(batch::window(one.context))), one.context});
      content.back() = draw(model.last_logits(), one.context - 1, random);
      std::putchar(content.back());
    }
    std::putchar('\n');
  });
  return interrupted ? interrupted_status() : 0;
}

}  // namespace language_model
