// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

/// @file
/// moue_convert: from a mixture of experts to one of universal experts; see `moue_convert --help`.

#include <cstdio>
#include <exception>
#include <string_view>
#include <vector>

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
  try {
    const std::vector<std::string_view> arguments(values + 1, values + count);
    follow(converting::parse_options(arguments));
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "moue_convert: %s\n", problem.what());
    return dynamic_cast<const converting::usage_error*>(&problem) != nullptr ? 2 : 1;
  }
}
