// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What is true of files that are no checkpoint of a public family: those of this library, and GGUF.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/io/converted.hpp"
#include "moue/io/gguf.hpp"
#include "summary.hpp"

namespace inspect {

namespace io = moue::io;

namespace detail {

/// The number after `word` in "<word><number>.<rest>".
inline std::optional<moue::index_t> number_after(std::string_view name, std::string_view word) {
  if (!name.starts_with(word)) return {};
  moue::index_t number = 0;
  const char* last = name.data() + name.size();
  const auto [end, problem] = std::from_chars(name.data() + word.size(), last, number);
  return problem == std::errc() && end != last && *end == '.' ? std::optional(number) : std::nullopt;
}

/// Where in a name of `io::save` that of a mixture's tensor begins, which may stand behind the name of a set, such as
/// "adamw.first."; npos if there is none.
inline std::size_t mixture_name_in(std::string_view name) {
  for (std::size_t at = 0; at < name.size();) {
    const auto rest = name.substr(at);
    if (number_after(rest, "experts.") || number_after(rest, "layers.") || rest.starts_with("model.router.")) return at;
    const auto dot = name.find('.', at);
    at = dot == name.npos ? name.size() : dot + 1;
  }
  return name.npos;
}

}  // namespace detail

/// What connections a converted checkpoint has beside those of its family.
inline void print_conversion(const io::moe_checkpoint& source) {
  if (source.gguf() || !io::is_converted(source.files())) return;
  const auto plan = io::plan_of(source);
  moue::index_t connections = 0;
  for (moue::index_t layer = 0; layer < plan.layers(); ++layer) connections += std::ssize(plan.foreign(layer));
  detail::line("converted", std::to_string(plan.universal.size()) + " universal experts, " +
                                std::to_string(connections) + " connections to other layers");
}

/// Prints what weights of a mixture, as `io::save` names them, hold: alone, or sets of them behind a name each, as a run
/// that is saved has them. False if the names are others.
inline bool print_own(const io::checkpoint& files) {
  std::set<moue::index_t> experts, layers;
  std::set<std::string> sets, with_experts, others;  // names before those of a mixture; words of what is none
  std::map<std::string, std::string> parts;          // of an expert or a router, and a shape
  for (const auto& full : files.names()) {
    const auto begin = detail::mixture_name_in(full);
    if (begin == full.npos) {
      others.insert(full.substr(0, full.find('.') + 1));
      continue;
    }
    sets.insert(full.substr(0, begin));
    const auto name = full.substr(begin);
    const auto expert = detail::number_after(name, "experts."), layer = detail::number_after(name, "layers.");
    if (expert) experts.insert(*expert), with_experts.insert(full.substr(0, begin));
    if (layer) layers.insert(*layer);
    const auto part = (expert ? "expert " : "router ") + name.substr(name.rfind('.') + 1);
    auto& shapes = parts[part];
    const auto shape = detail::shape_text(files.entry(full).shape);
    if (shapes.find(shape) == shapes.npos) shapes += (shapes.empty() ? "" : ", ") + shape;
  }
  if (layers.empty() || with_experts != sets) return false;
  // What stands beside a set, such as steps, is the run's; all else is another's file.
  for (const auto& word : others)
    if (word.empty() || std::none_of(sets.begin(), sets.end(), [&](const auto& set) { return set.starts_with(word); }))
      return false;
  detail::line("family", "weights of a mixture, as moue saves them");
  if (sets.size() > 1 || !sets.begin()->empty()) {
    std::string names;
    for (const auto& set : sets) names += (names.empty() ? "" : ", ") + io::detail::shown(set);
    detail::line("sets", names);
  }
  detail::line("layers", std::to_string(layers.size()));
  detail::line("experts", std::to_string(experts.size()) + " in all");
  for (const auto& [part, shapes] : parts) detail::line("", part + " " + shapes);
  return true;
}

inline bool is_gguf(const std::filesystem::path& path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == "GGUF";
}

inline void print_gguf(const io::gguf_file& file, bool tensors) {
  struct sum {
    std::uint64_t tensors = 0, bytes = 0;
  };
  std::map<std::string, sum> types;
  std::uint64_t bytes = 0;
  for (const auto& tensor : file.tensors()) {
    auto& type = types[detail::type_text(tensor)];
    ++type.tensors;
    type.bytes += tensor.bytes;
    bytes += tensor.bytes;
  }
  detail::line("tensors", std::to_string(file.tensors().size()) + " in a GGUF file, " +
                              detail::bytes_text(static_cast<double>(bytes)));
  for (const auto& [name, type] : types)
    detail::line(
        "", name + ": " + std::to_string(type.tensors) + ", " + detail::bytes_text(static_cast<double>(type.bytes)));
  if (!tensors) return;
  for (const auto& tensor : file.tensors())
    std::printf("  %s %s %s\n", io::detail::shown(tensor.name).c_str(), detail::type_text(tensor).c_str(),
                detail::shape_text(tensor.shape).c_str());
}

/// Whether every tensor of a GGUF file, which records no checksums, decodes to finite numbers. Reads all of the data.
inline bool print_gguf_verification(const io::gguf_file& file) {
  constexpr std::uint64_t piece = 1 << 16;
  std::uint64_t finite = 0, damaged = 0, unknown = 0;
  std::vector<double> numbers;
  for (const auto& tensor : file.tensors()) {
    if (!tensor.type || !tensor.type->decoded) {
      ++unknown;
      detail::line("not decoded", tensor.name);
      continue;
    }
    const auto count = detail::elements(tensor.shape);
    bool all = true;
    for (std::uint64_t first = 0; all && first < count; first += piece) {
      numbers.resize(static_cast<std::size_t>(std::min(piece, count - first)));
      file.read(tensor.name, first, std::span(numbers));
      all = std::all_of(numbers.begin(), numbers.end(), [](double number) { return std::isfinite(number); });
    }
    ++(all ? finite : damaged);
    if (!all) detail::line("damaged", tensor.name);
  }
  detail::line("checked", std::to_string(finite) + " tensors decode to finite numbers, " + std::to_string(damaged) +
                              " hold others, " + std::to_string(unknown) +
                              " are not decoded; the format has no checksums");
  return damaged == 0 && unknown == 0;
}

/// What the keys of a GGUF file say whose tensors are those of no family.
inline void print_gguf_keys(const io::gguf_file& file) {
  const auto architecture = file.text("general.architecture").value_or("");
  detail::line("named", architecture.empty() ? "nothing" : io::detail::shown(architecture));
  constexpr std::pair<const char*, const char*> keys[] = {{"block_count", "layers"},
                                                          {"expert_count", "experts"},
                                                          {"expert_used_count", "per token"},
                                                          {"embedding_length", "width"},
                                                          {"expert_feed_forward_length", "hidden"}};
  for (const auto& [key, label] : keys)
    if (const auto number = file.number(architecture + "." + key)) {
      char text[32];
      std::snprintf(text, sizeof text, "%.17g", *number);
      detail::line(label, text);
    }
}

}  // namespace inspect
