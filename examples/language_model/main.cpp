// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

/// @file
/// moue_lm: trains and compares small language models; see `moue_lm --help`.

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "../program/program.hpp"
#include "compare.hpp"
#include "convert_study.hpp"
#include "options.hpp"
#include "sweep.hpp"
#include "train.hpp"

namespace {

namespace lm = language_model;

int follow(const lm::options& o) {
  if (o.help) {
    std::fwrite(lm::help_text.data(), 1, lm::help_text.size(), stdout);
    return 0;
  }
  lm::catch_interrupt();
  if (o.command == "generate") return lm::generate(o);
  const auto text = lm::read_text(o.text.empty() ? std::filesystem::path(MOUE_LM_TEXT) : o.text, lm::shape{}.context);
  if (o.command == "train") return lm::train(o, text);
  if (std::error_code problem;
      !o.out.empty() && !std::filesystem::is_directory(o.out) && !std::filesystem::create_directories(o.out, problem))
    throw std::runtime_error("folder '" + o.out.string() + "': it cannot be made: " + problem.message());
  try {
    if (o.command == "compare") lm::compare(o, text);
    if (o.command == "sweep") lm::sweep(o, text);
    if (o.command == "convert-study") lm::study_conversion(o, text);
    return 0;
  } catch (const lm::stopped&) {
    std::fprintf(stderr, "moue_lm: interrupted; nothing was written\n");
    return lm::interrupted_status();
  }
}

}  // namespace

int main(int count, char** values) {
  return program::run("moue_lm", count, values,
                      [](const auto& arguments) { return follow(lm::parse_options(arguments)); });
}
