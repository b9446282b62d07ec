// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

#include "layers.hpp"

#include <moue/adapt/torch/threads.hpp>
#include <moue/any/erase.hpp>
#include <type_traits>

#include "../language_model/trainer.hpp"

namespace torch_lm {
namespace {

template <class MixtureT>
class demo final : public contestant {
 public:
  demo(const MixtureT& mixture, const run_config& config, const corpus& text)
      : mixture_(mixture), trainer_(mixture_, config, text) {}
  double advance() override { return trainer_.advance(); }
  double evaluate(moue::index_t batches) override { return trainer_.evaluate(batches).bits_per_byte; }

 private:
  MixtureT mixture_;
  language_model::trainer<MixtureT> trainer_;
};

}  // namespace

std::shared_ptr<const moue::any_model<float>> make_layers(const run_config& config, bool on_torch_threads) {
  return language_model::with_mixture(config, [&](const auto& mixture) {
    return moue::erase<float>(mixture.on(on_torch_threads ? moue::cpu{moue::torch_threads{}} : moue::cpu{}));
  });
}

std::unique_ptr<contestant> make_demo(const run_config& config, const corpus& text) {
  return language_model::with_mixture(config, [&](const auto& mixture) -> std::unique_ptr<contestant> {
    return std::make_unique<demo<std::remove_cvref_t<decltype(mixture)>>>(mixture, config, text);
  });
}

}  // namespace torch_lm
