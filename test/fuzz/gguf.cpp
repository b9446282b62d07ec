// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// GGUF files. Whatever the bytes are, the answer is a header whose tensors lie within them, every block of which decodes,
// or a moue::error; and then a mixture whose matrices are among the tensors, or a moue::error.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "moue/io/gguf.hpp"
#include "moue/io/layouts/recognise.hpp"

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
    const auto entries = moue::io::detail::entries_of(header);
    static const moue::io::moe_options options;  // its rows take longer to make than to try
    const auto d = moue::io::recognise(entries, moue::io::detail::gguf_config(header), options);
    demand(d.layers() > 0 && d.experts > 0 && d.width > 0 && d.hidden > 0);
    for (const auto part : moue::io::moe_parts) {
      if (!d.has(part)) continue;
      const auto s = d.slice(d.layers() - 1, part, moue::io::moe_description::per_expert(part) ? d.experts - 1 : 0);
      const auto holds = [&](const auto& tensor) { return tensor.name == s.tensor; };
      const auto at = std::find_if(header.tensors.begin(), header.tensors.end(), holds);
      demand(at != header.tensors.end());
      std::uint64_t count = 1;
      for (const auto n : at->shape) count *= n;
      demand(s.first + static_cast<std::uint64_t>(s.outer) * static_cast<std::uint64_t>(s.cols) <= count);
    }
  } catch (const moue::error&) {
  }
  return 0;
}
