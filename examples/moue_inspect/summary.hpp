// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the program prints.

#include <cstdint>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "moue/io.hpp"
#include "moue/io/gguf/header.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"

namespace inspect {

namespace io = moue::io;

namespace detail {

/// 46702792704 as "46.70 billion".
inline std::string count_text(double n) {
  char text[64];
  if (n >= 1e9)
    std::snprintf(text, sizeof text, "%.2f billion", n / 1e9);
  else if (n >= 1e6)
    std::snprintf(text, sizeof text, "%.2f million", n / 1e6);
  else
    std::snprintf(text, sizeof text, "%.0f", n);
  return text;
}
inline std::string bytes_text(double n) {
  char text[64];
  if (n >= 1e9)
    std::snprintf(text, sizeof text, "%.2f GB", n / 1e9);
  else if (n >= 1e6)
    std::snprintf(text, sizeof text, "%.2f MB", n / 1e6);
  else
    std::snprintf(text, sizeof text, "%.0f bytes", n);
  return text;
}
inline std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (const auto n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}
inline std::uint64_t elements(const std::vector<std::uint64_t>& shape) {
  std::uint64_t n = 1;  // cannot overflow: the reader has compared it with the bytes
  for (const auto size : shape) n *= size;
  return n;
}
inline std::string type_text(const io::gguf_tensor& tensor) {
  return tensor.type ? std::string(tensor.type->name) : "type " + std::to_string(tensor.type_id);
}
inline void line(const char* label, const std::string& text) {
  std::printf("%-11s %s\n", label, io::printable(text).c_str());
}

/// "0 to 31", or "1 to 26 and 30".
inline std::string ranges(const std::vector<moue::index_t>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (text.empty() ? "" : ", ") + std::to_string(numbers[i]);
    if (last > i) text += " to " + std::to_string(numbers[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace detail

/// What is true of any file: tensors, types, bytes.
inline void print_files(const io::checkpoint& files, bool tensors) {
  struct sum {
    std::uint64_t tensors = 0, bytes = 0;
  };
  std::map<std::string, sum> types;
  std::uint64_t bytes = 0;
  std::size_t count = 0;
  for (const auto& name : files.names()) {
    if (files.aliases().contains(name)) continue;
    const auto& tensor = files.entry(name);
    auto& type = types[tensor.type_name];
    ++type.tensors, ++count;
    type.bytes += tensor.end - tensor.begin;
    bytes += tensor.end - tensor.begin;
  }
  detail::line("tensors", std::to_string(count) + " in " + std::to_string(files.files().size()) +
                              (files.files().size() == 1 ? " file, " : " files, ") +
                              detail::bytes_text(static_cast<double>(bytes)));
  for (const auto& [name, type] : types)
    detail::line(
        "", name + ": " + std::to_string(type.tensors) + ", " + detail::bytes_text(static_cast<double>(type.bytes)));
  if (!files.aliases().empty())
    detail::line("shared", std::to_string(files.aliases().size()) + " more names for tensors that are stored once");
  if (!tensors) return;
  for (const auto& name : files.names()) {
    const auto& tensor = files.entry(name);
    const auto alias = files.aliases().find(name);
    std::string text = name + " " + tensor.type_name + " " + detail::shape_text(tensor.shape);
    if (alias != files.aliases().end()) text += " = " + alias->second;
    std::printf("  %s\n", io::printable(text).c_str());
  }
}

/// Whether every tensor is as it was written.
inline bool print_verification(const io::checkpoint& files) {
  const auto found = io::verify(files);
  const auto print = [](const char* label, const std::vector<std::string>& names) {
    for (const auto& name : names) detail::line(label, name);
  };
  print("damaged", found.damaged);
  if (found.intact > 0) print("no checksum", found.unrecorded);
  detail::line("checked", std::to_string(found.intact) + " tensors are as they were written, " +
                              std::to_string(found.damaged.size()) + " are damaged, " +
                              std::to_string(found.unrecorded.size()) + " have no checksum");
  return found.passed();
}

/// Parameters by what they are for. Blocks and scales of coded tensors are no parameters; what they decode to is.
struct census {
  double experts = 0, shared = 0, routers = 0, others = 0;

  double all() const { return experts + shared + routers + others; }
};

/// The names of all tensors that hold a part of the mixture, in plain numbers or in codes, and more that might.
inline std::set<std::string> mixture_names(const io::moe_description& d) {
  std::set<std::string> names;
  for (moue::index_t layer = 0; layer < d.layers(); ++layer)
    for (const auto part : io::moe_parts) {
      if (!d.has(part)) continue;
      for (moue::index_t e = 0; e < (io::moe_description::per_expert(part) ? d.experts : 1); ++e)
        for (auto name : io::detail::names_of(d.layout, d.pattern(part))) {
          if (const auto brace = name.find("{e}"); brace != name.npos) name.replace(brace, 3, std::to_string(e));
          names.insert(d.layer_name(layer) + name);
        }
    }
  return names;
}

inline census count_parameters(const io::moe_checkpoint& source) {
  const auto& d = source.description();
  census result;
  for (const auto part : io::moe_parts) {
    if (!d.has(part) || part == io::moe_part::input_gate) continue;  // input gates are the router's
    const bool copied = d.copied(part), routed = io::moe_description::per_expert(part) && !copied;
    const auto shape = d.shape(part);
    const double each = static_cast<double>(shape.rows) * static_cast<double>(shape.cols);
    (copied                         ? result.others  // what the experts of a layer share is none of an expert
     : routed                       ? result.experts
     : part >= io::moe_part::router ? result.routers
                                    : result.shared) +=
        each * static_cast<double>((routed ? d.experts : 1) * d.layers());
  }
  const auto mixture = mixture_names(d);
  const auto add_other = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
    if (!mixture.contains(name) && !name.ends_with("_scale_inv"))
      result.others += static_cast<double>(detail::elements(shape));
  };
  if (const auto* file = source.gguf()) {
    for (const auto& tensor : file->tensors()) add_other(tensor.name, tensor.shape);
  } else {
    for (const auto& name : source.files().names())
      if (!source.files().aliases().contains(name)) add_other(name, source.files().entry(name).shape);
  }
  return result;
}

/// What the codes of a part are called; empty if it stands in plain numbers. Not for GGUF files.
inline std::string scheme_of(const io::moe_checkpoint& source, moue::index_t layer, io::moe_part part,
                             moue::index_t expert) {
  const auto& d = source.description();
  const auto slice = d.slice(layer, part, expert);
  if (slice.mxfp4) return "MXFP4 of gpt-oss";
  const auto find = [&](const std::string& name) {
    return source.files().contains(name) ? &source.files().entry(name) : nullptr;
  };
  const auto coded = io::detail::find_coded(d, slice, find);
  return coded ? std::string(coded->how->name) : std::string();
}

/// What is true of a recognised mixture.
inline void print_mixture(const io::moe_checkpoint& source) {
  const auto& d = source.description();
  const bool running = d.missing.empty() && d.not_understood.empty();
  detail::line("family", d.family.name + ", layout '" + d.layout.name + "'");
  detail::line("layers", std::to_string(d.layers()) + " with a mixture (" + detail::ranges(d.model_layers) + ")");
  std::string experts = std::to_string(d.experts) + " a layer";
  if (running) experts += ", " + std::to_string(d.per_token) + " per token";
  if (d.identities > 0) experts += ", and " + std::to_string(d.identities) + " that return their input";
  if (running && d.groups > 1)
    experts += ", from " + std::to_string(d.selected_groups) + " of " + std::to_string(d.groups) + " groups";
  if (d.shared_hidden > 0) experts += "; and a shared one of hidden size " + std::to_string(d.shared_hidden);
  if (d.has(io::moe_part::shared_self_gate)) experts += ", gated by itself";
  detail::line("experts", experts);
  std::string gate(io::name_of(d.gate));
  if (running && d.scale != 1) {
    char scale[32];
    std::snprintf(scale, sizeof scale, ", times %g", d.scale);
    gate += scale;
  }
  if (d.has(io::moe_part::router_bias)) gate += "; logits have a bias";
  if (d.has(io::moe_part::selection_bias)) gate += "; selection has a bias";
  detail::line("gates", running ? gate
                        : d.missing.empty()
                            ? "not known: config.json has '" + d.not_understood[0] + "'"
                            : "not known: '" + d.missing + "' is missing (no config.json beside the file?)");
  detail::line("sizes", "width " + std::to_string(d.width) + ", hidden " + std::to_string(d.hidden) + ", " +
                            (d.latent > 0 ? "latent " + std::to_string(d.latent) + ", " : "") +
                            std::string(io::name_of(d.family.activation)));
  // The types of a GGUF file's tensors stand above.
  if (const auto codes = source.gguf() ? std::string() : scheme_of(source, 0, io::moe_part::up, 0); !codes.empty())
    detail::line("codes", codes);
  const auto n = count_parameters(source);
  detail::line("parameters", detail::count_text(n.all()) + ": experts " + detail::count_text(n.experts) +
                                 (n.shared > 0 ? ", shared experts " + detail::count_text(n.shared) : "") +
                                 ", routers " + detail::count_text(n.routers) + ", the rest " +
                                 detail::count_text(n.others));
  if (running)
    detail::line("active", detail::count_text(n.all() - n.experts +
                                              n.experts * static_cast<double>(d.per_token) /
                                                  static_cast<double>(d.candidates())) +
                               " parameters per token");
}

}  // namespace inspect
