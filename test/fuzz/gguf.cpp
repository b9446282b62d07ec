// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// GGUF files. Whatever the bytes are, the answer is a header whose tensors lie within them, every block of which decodes,
// or a moue::error.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "moue/io/gguf.hpp"

namespace {

void demand(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A copy of its own, so that reading beyond it is seen.
  const std::vector<std::uint8_t> copy(data, data + size);
  const auto file = std::as_bytes(std::span(copy));
  try {
    const auto header = moue::io::parse_gguf(file, "input");
    for (const auto& [key, value] : header.values) {
      moue::io::detail::number_in(value.kind, value.bytes);
      demand(value.bytes.empty() || (value.bytes.data() >= file.data() &&
                                     value.bytes.data() + value.bytes.size() <= file.data() + file.size()));
    }
    for (const auto& tensor : header.tensors) {
      demand(tensor.begin <= size && tensor.bytes <= size - tensor.begin);
      if (!tensor.type || !tensor.type->decoded) continue;
      const auto blocks = tensor.bytes / static_cast<std::uint64_t>(tensor.type->bytes);
      std::vector<float> numbers(static_cast<std::size_t>(std::min<std::uint64_t>(blocks, 4)) *
                                 static_cast<std::size_t>(tensor.type->numbers));
      moue::io::detail::decode_blocks(*tensor.type, file.data() + tensor.begin, std::span(numbers));
    }
  } catch (const moue::error&) {
  }
  return 0;
}
