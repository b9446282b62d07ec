// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

/// @file
/// moue_convert: from a mixture of experts to one of universal experts; see `moue_convert --help`.

#include <cstdio>

#include "../program/program.hpp"
#include "backward.hpp"
#include "forward.hpp"
#include "options.hpp"

namespace {

void follow(const converting::options& o) {
  if (o.help) {
    std::fwrite(converting::help_text.data(), 1, converting::help_text.size(), stdout);
    return;
  }
  moue::io::moe_options wanted;
  wanted.family = o.family;
  const moue::io::moe_checkpoint source(moue::io::checkpoint(o.in), wanted);
  o.back ? converting::convert_back(o, source) : converting::convert_forward(o, source);
}

}  // namespace

int main(int count, char** values) {
  return program::run("moue_convert", count, values, [](const auto& arguments) {
    follow(converting::parse_options(arguments));
    return 0;
  });
}
