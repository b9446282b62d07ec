// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The head of a safetensors file from any bytes. The input is the size of the data, as two bytes, then the JSON text; with
// the top bit of the first byte set it is a whole file instead.

#include "moue/io/safetensors/header.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/safetensors/writer.hpp"

namespace {

void demand(bool holds) {
  if (!holds) std::abort();
}

/// What every reader relies on, checked in another way than the parser does: each byte is counted.
void check(const moue::io::safetensors_header& header, std::uint64_t file_size) {
  std::vector<int> owners(file_size - header.data_begin, 0);
  for (std::size_t i = 0; i < header.tensors.size(); ++i) {
    const auto& tensor = header.tensors[i];
    demand(i == 0 || header.tensors[i - 1].name < tensor.name);
    demand(tensor.begin <= tensor.end && tensor.end <= owners.size());
    for (auto byte = tensor.begin; byte < tensor.end; ++byte) ++owners[byte];
    if (tensor.type == moue::io::dtype::unknown) continue;
    long double bits = moue::io::bits_of(tensor.type);
    for (const auto size : tensor.shape) bits *= static_cast<long double>(size);
    demand(bits == 8 * static_cast<long double>(tensor.end - tensor.begin));
  }
  demand(std::all_of(owners.begin(), owners.end(), [](int count) { return count == 1; }));
}

/// Our writer's header for the same tensors says the same.
void write_again(const moue::io::safetensors_header& header) {
  std::vector<moue::io::tensor_spec> specs;
  for (const auto& tensor : header.tensors) {
    if (tensor.type == moue::io::dtype::unknown) return;
    specs.push_back({tensor.name, tensor.type, tensor.shape});
  }
  const auto placed = moue::io::detail::place_tensors(specs, "again");
  const auto text = moue::io::detail::header_text(placed, header.metadata, "again");
  const auto again = moue::io::parse_header(std::as_bytes(std::span(text)),
                                            text.size() + (placed.empty() ? 0 : placed.back().end), "again");
  demand(again.metadata == header.metadata && again.tensors.size() == header.tensors.size());
  for (std::size_t i = 0; i < again.tensors.size(); ++i)
    demand(again.tensors[i].name == header.tensors[i].name && again.tensors[i].type == header.tensors[i].type &&
           again.tensors[i].shape == header.tensors[i].shape);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  std::string file(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::uint64_t file_size = file.size();
  if (data[0] < 0x80) {
    file.erase(0, 1);
    std::string length(8, '\0');
    length[0] = static_cast<char>(file.size() & 0xff);
    length[1] = static_cast<char>(file.size() >> 8 & 0xff);
    length[2] = static_cast<char>(file.size() >> 16 & 0xff);
    file = length + file;
    file_size = file.size() + data[0] + data[1] * 128u;
  }
  try {
    const auto header = moue::io::parse_header(std::as_bytes(std::span(file)), file_size, "input");
    check(header, file_size);
    write_again(header);
  } catch (const moue::error&) {
  }
  return 0;
}
