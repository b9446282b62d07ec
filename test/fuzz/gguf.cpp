// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// GGUF files. Whatever the bytes are, the answer is a header whose tensors lie within them, every block of which decodes,
// or a moue::error; and then a mixture whose matrices share out tensors of the file, or a moue::error.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "moue/io/gguf.hpp"
#include "moue/io/layouts/recognise.hpp"
#include "positions.hpp"

namespace {

void demand(bool holds) {
  if (!holds) std::abort();
}

/// Decodes as many whole blocks as there are numbers left to decode, the last one in any case, and looks whether a number
/// read alone is the same.
void decode(const moue::io::gguf_tensor& tensor, const std::byte* data, std::uint64_t& left) {
  const auto& type = *tensor.type;
  const auto numbers = static_cast<std::uint64_t>(type.numbers), bytes = static_cast<std::uint64_t>(type.bytes);
  const auto all = tensor.bytes / bytes;
  if (all == 0) return;
  const auto blocks = std::max<std::uint64_t>(1, std::min(all, left / numbers));
  left -= std::min(left, blocks * numbers);
  for (const auto first : {std::uint64_t{0}, all - blocks}) {
    std::vector<double> values(static_cast<std::size_t>(blocks * numbers));
    moue::io::detail::decode_blocks(type, data + first * bytes, std::span(values));
    const auto last = moue::io::detail::number_of_block(type, data + (first + blocks - 1) * bytes, type.numbers - 1);
    demand(last == values.back() || (std::isnan(last) && std::isnan(values.back())));
  }
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
    std::uint64_t left = 1 << 17;  // numbers to decode: many tensors may stand in the same bytes
    for (const auto& tensor : header.tensors) {
      demand(tensor.begin <= size && tensor.bytes <= size - tensor.begin);
      if (!tensor.type || !tensor.type->decoded) continue;
      decode(tensor, file.data() + tensor.begin, left);
    }
    const auto entries = moue::io::detail::entries_of(header);
    static const moue::io::moe_options options;  // its rows take longer to make than to try
    const auto d = moue::io::recognise(entries, moue::io::detail::gguf_config(header), options);
    demand(d.layers() > 0 && d.experts > 0 && d.width > 0 && d.hidden > 0);
    for (const moue::index_t layer : {moue::index_t{0}, d.layers() - 1}) check_positions(d, layer);
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
