// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

/// @file
/// moue_inspect: what is in a checkpoint; see `moue_inspect --help`.

#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "../program/program.hpp"
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
  if (!o.other.empty() && o.verify) throw inspect::usage_error("'--verify' and '--compare' are two runs");
  const bool gguf = inspect::is_gguf(o.file);
  if (gguf && (!o.other.empty() || o.verify))
    throw inspect::usage_error("a GGUF file is not verified and not compared: it has no checksums");
  if (!o.other.empty()) return inspect::print_comparison(io::checkpoint(o.file), io::checkpoint(o.other)) ? 0 : 3;
  io::moe_options wanted;
  wanted.family = o.family;
  std::optional<io::gguf_file> file;
  std::optional<io::checkpoint> files;
  int status = 0;
  if (gguf) {
    inspect::print_gguf(file.emplace(o.file), o.tensors);
  } else {
    inspect::print_files(files.emplace(o.file), o.tensors);
    if (o.verify && !inspect::print_verification(*files)) status = 1;
  }
  std::optional<io::moe_checkpoint> source;
  try {
    if (gguf)
      source.emplace(std::move(*file), wanted);
    else
      source.emplace(std::move(*files), wanted);
  } catch (const moue::error& problem) {
    if (!o.family.empty() || !o.svg.empty()) throw;
    if (gguf) inspect::print_gguf_keys(io::gguf_file(o.file));
    if (gguf || !inspect::print_own(io::checkpoint(o.file)))
      inspect::detail::line("family", "not recognised: " + std::string(problem.what()));
    return status;
  }
  inspect::print_mixture(*source);
  inspect::print_conversion(*source);
  if (!o.svg.empty()) {
    inspect::draw_similarity(*source, o.svg, o.probes, o.per_layer);
    std::printf("picture     %s\n", moue::io::printable(o.svg.native()).c_str());
  }
  return status;
}

}  // namespace

int main(int count, char** values) {
  return program::run("moue_inspect", count, values,
                      [](const auto& arguments) { return follow(inspect::parse_options(arguments)); });
}
