// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

/// @file
/// moue_inspect: what is in a checkpoint; see `moue_inspect --help`.

#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "../program/program.hpp"
#include "compare.hpp"
#include "compare_mixtures.hpp"
#include "options.hpp"
#include "others.hpp"
#include "similarity_map.hpp"
#include "summary.hpp"

namespace {

namespace io = moue::io;

io::moe_checkpoint open(const std::filesystem::path& path, const io::moe_options& wanted) {
  return inspect::is_gguf(path) ? io::moe_checkpoint(io::gguf_file(path), wanted)
                                : io::moe_checkpoint(io::checkpoint(path), wanted);
}

/// What is recognised of a file; nothing if that is no family, and the command line names none.
std::optional<io::moe_checkpoint> recognised(const std::filesystem::path& path, const io::moe_options& wanted) {
  try {
    return open(path, wanted);
  } catch (const moue::error&) {
    if (!wanted.family.empty()) throw;
    return {};
  }
}

/// Whether both are the same.
bool compare(const inspect::options& o) {
  using inspect::print_comparison;
  io::moe_options wanted;
  wanted.family = o.family;
  const bool first = inspect::is_gguf(o.file), second = inspect::is_gguf(o.other);
  if (first != second) return print_comparison(open(o.file, wanted), open(o.other, wanted));
  const auto a = recognised(o.file, wanted), b = recognised(o.other, wanted);
  if (a && b) {
    const auto &x = a->description(), &y = b->description();
    if (x.layout.name != y.layout.name || x.layout.router != y.layout.router || x.prefix != y.prefix)
      return print_comparison(*a, *b);
    if (!first && (inspect::in_codes(*a) || inspect::in_codes(*b))) {
      const bool mixtures = print_comparison(*a, *b);
      auto names = inspect::mixture_names(x);
      names.merge(inspect::mixture_names(y));
      return print_comparison(inspect::detail::checkpoint_tensors(o.file), inspect::detail::checkpoint_tensors(o.other),
                              names) &&
             mixtures;
    }
  }
  const bool same =
      first
          ? print_comparison(inspect::detail::gguf_tensors(o.file), inspect::detail::gguf_tensors(o.other))
          : print_comparison(inspect::detail::checkpoint_tensors(o.file), inspect::detail::checkpoint_tensors(o.other));
  if (a.has_value() != b.has_value()) inspect::detail::line("rules", "not compared: only one of the two is recognised");
  return (!a || !b || inspect::print_rules(a->description(), b->description())) && same;
}

int follow(const inspect::options& o) {
  if (o.help) {
    std::fwrite(inspect::help_text.data(), 1, inspect::help_text.size(), stdout);
    return 0;
  }
  if (!o.other.empty() && o.verify) throw inspect::usage_error("'--verify' and '--compare' are two runs");
  if (!o.other.empty()) return compare(o) ? 0 : 3;
  const bool gguf = inspect::is_gguf(o.file);
  io::moe_options wanted;
  wanted.family = o.family;
  std::optional<io::gguf_file> file;
  std::optional<io::checkpoint> files;
  int status = 0;
  if (gguf) {
    inspect::print_gguf(file.emplace(o.file), o.tensors);
    if (o.verify && !inspect::print_gguf_verification(*file)) status = 1;
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
