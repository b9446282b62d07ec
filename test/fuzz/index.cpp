// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The index of a checkpoint, and the aliases in its metadata, from any text.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "moue/error.hpp"
#include "moue/io/json.hpp"
#include "moue/io/shard_index.hpp"

namespace {

void demand(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto index = moue::io::parse_index(text, "input");
    const std::filesystem::path folder("/folder");
    for (const auto& [tensor, file] : index.weight_map) {
      const auto place = (folder / file).lexically_normal();
      demand(place.string().starts_with("/folder/") && place.has_filename());
      demand(tensor.size() <= size && file.size() <= size);
      demand(moue::io::detail::inside_folder(file) == file);
    }
  } catch (const moue::error&) {
  }
  try {
    std::size_t bytes = 0;
    for (const auto& [key, value] : moue::io::detail::read_string_map(text, "input"))
      bytes += key.size() + value.size();
    demand(bytes <= size);
  } catch (const moue::error&) {
  }
  return 0;
}
