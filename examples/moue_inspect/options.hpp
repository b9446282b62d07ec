// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The command line.

#include <charconv>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "../program/program.hpp"
#include "moue/view.hpp"

namespace inspect {

using program::usage_error;

struct options {
  std::filesystem::path file;
  std::filesystem::path other;
  std::string family;
  std::filesystem::path svg;
  moue::index_t probes = 32;
  moue::index_t per_layer = 32;
  bool tensors = false;
  bool verify = false;
  bool help = false;
};

inline constexpr std::string_view help_text =
    R"(moue_inspect: what is in a checkpoint of a mixture of experts

  moue_inspect FILE [options]     FILE: a .safetensors file, a model.safetensors.index.json, a folder with either, or a
                                  .gguf file

  --compare OTHER   say which tensors are not the same in OTHER, and by how much, and which rules of the mixtures, such as
                    experts per token; the status is 3 if there are any. Of two layouts, and of a GGUF file and another
                    kind of file, whose names differ, the matrices of the mixtures are compared

  --family NAME     take the checkpoint, or both, for one of this family, instead of finding out
  --tensors         also list every tensor
  --verify          also read all data and compare every tensor with the checksum that the writers of this library record;
                    the exit status is 1 if one differs or has none. GGUF files have no checksums: every tensor is
                    decoded, and the status is 1 if a number is not finite or a type is not decoded
  --svg PATH        draw how alike experts are, across layers: the mean cosine between their outputs for the same random
                    inputs. With many experts, layer by layer: the best match in the other layer, averaged
  --probes N        random inputs per expert for the picture (default 32)
  --per-layer N     experts of a layer that enter the picture, evenly chosen (default 32)
  --help            this text
)";

namespace detail {

inline moue::index_t number_in(std::string_view flag, std::string_view value) {
  moue::index_t result = 0;
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (problem != std::errc() || end != value.data() + value.size() || result < 1 || result > 4096)
    throw usage_error("option '" + std::string(flag) + "' needs a number from 1 to 4096, not '" + std::string(value) +
                      "'");
  return result;
}

}  // namespace detail

/// Reads the arguments that follow the program's name. Throws `usage_error`.
inline options parse_options(std::span<const std::string_view> arguments) {
  options result;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto name = arguments[i];
    const auto value = [&]() -> std::string_view {
      if (++i == arguments.size()) throw usage_error("option '" + std::string(name) + "' needs a value");
      return arguments[i];
    };
    if (name == "--help" || name == "-h")
      result.help = true;
    else if (name == "--tensors")
      result.tensors = true;
    else if (name == "--verify")
      result.verify = true;
    else if (name == "--compare")
      result.other = value();
    else if (name == "--family")
      result.family = value();
    else if (name == "--svg")
      result.svg = value();
    else if (name == "--probes")
      result.probes = detail::number_in(name, value());
    else if (name == "--per-layer")
      result.per_layer = detail::number_in(name, value());
    else if (name.starts_with("--"))
      throw usage_error("unknown option '" + std::string(name) + "' (see --help)");
    else if (result.file.empty())
      result.file = name;
    else
      throw usage_error("one file at a time: '" + std::string(name) + "' is one too many");
  }
  if (!result.help && result.file.empty()) throw usage_error("which file? (see --help)");
  return result;
}

}  // namespace inspect
