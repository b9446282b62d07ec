// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

/// @file
/// moue_inspect: what is in a checkpoint; see `moue_inspect --help`.

#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compare.hpp"
#include "options.hpp"
#include "others.hpp"
#include "similarity_map.hpp"
#include "summary.hpp"

namespace {

int follow(const inspect::options& o) {
  namespace io = moue::io;
  if (o.help) {
    std::fwrite(inspect::help_text.data(), 1, inspect::help_text.size(), stdout);
    return 0;
  }
  if (inspect::is_gguf(o.file)) {
    if (!o.other.empty() || !o.svg.empty() || !o.family.empty())
      throw inspect::usage_error("of a GGUF file only a summary is made");
    inspect::print_gguf(io::gguf_file(o.file), o.tensors);
    return 0;
  }
  io::checkpoint files(o.file);
  if (!o.other.empty()) return inspect::print_comparison(files, io::checkpoint(o.other)) ? 0 : 3;
  inspect::print_files(files, o.tensors);
  std::optional<io::moe_checkpoint> source;
  try {
    io::moe_options wanted;
    wanted.family = o.family;
    source.emplace(std::move(files), wanted);
  } catch (const moue::error& problem) {
    if (!o.family.empty() || !o.svg.empty()) throw;
    if (!inspect::print_own(io::checkpoint(o.file))) std::printf("family      not recognised: %s\n", problem.what());
    return 0;
  }
  inspect::print_mixture(*source);
  inspect::print_conversion(*source);
  if (!o.svg.empty()) {
    inspect::draw_similarity(*source, o.svg, o.probes, o.per_layer);
    std::printf("picture     %s\n", o.svg.c_str());
  }
  return 0;
}

}  // namespace

int main(int count, char** values) {
  try {
    const std::vector<std::string_view> arguments(values + 1, values + count);
    return follow(inspect::parse_options(arguments));
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "moue_inspect: %s\n", problem.what());
    return dynamic_cast<const inspect::usage_error*>(&problem) != nullptr ? 2 : 1;
  }
}
