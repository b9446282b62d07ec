// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Recognition of layouts. Input: config.json, a line with "---", then a tensor per line as "type name size size ...".
// Whatever the names, shapes and keys are, the answer is a description whose matrices share out the tensors listed and
// decode from any bits of their sizes, or a moue::error.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/io/json_literals.hpp"
#include "moue/io/layouts/coded_matrix.hpp"
#include "moue/io/layouts/moe_writer.hpp"
#include "moue/io/layouts/recognise.hpp"
#include "moue/io/low_precision.hpp"
#include "positions.hpp"

namespace {

namespace io = moue::io;

std::vector<io::tensor_entry> parse_tensors(std::string_view text) {
  std::map<std::string, io::tensor_entry> found;  // a checkpoint holds no name twice
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    io::tensor_entry entry;
    words >> entry.type_name >> entry.name;
    entry.type = io::dtype_called(entry.type_name);
    for (std::uint64_t size = 0; words >> size;) entry.shape.push_back(size);
    auto name = entry.name;
    found[std::move(name)] = std::move(entry);
  }
  std::vector<io::tensor_entry> entries;
  for (auto& [name, entry] : found) entries.push_back(std::move(entry));
  return entries;
}

void demand(bool holds) {
  if (!holds) std::abort();
}

/// Decodes the matrix from tensors of exactly their sizes, so that reading beyond one is seen.
void decode(const io::moe_slice& s, const io::coded_tensors& coded, const auto& find) {
  constexpr std::uint64_t most = 1 << 14;
  std::map<std::string, std::vector<std::byte>> stored;
  for (const auto* name : {&coded.codes, &coded.scales, &coded.zeros, &coded.groups}) {
    if (name->empty()) continue;
    const auto& tensor = *find(*name);
    std::uint64_t count = 1;
    for (const auto size : tensor.shape) {
      if (size > most) return;
      count *= size;
      if (count > most) return;
    }
    auto& bytes = stored[*name];
    bytes.resize(static_cast<std::size_t>(count) * static_cast<std::size_t>(bits_of(tensor.type)) / 8);
    // Groups are small numbers; all else is any bits.
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::byte>(name == &coded.groups ? (i % 4 == 0 ? i % 3 : 0) : i * 97 + 31);
  }
  if (s.line() > 1 << 14 || s.lines() > 1 << 14 || s.line() * s.lines() > 1 << 14) return;
  const auto m = io::detail::coded_matrix_of(
      s, coded, find, [&](const std::string& name) { return std::span<const std::byte>(stored.at(name)); });
  std::vector<float> numbers(static_cast<std::size_t>(m.rows * m.cols));
  io::decode_rows(m, 0, std::span(numbers));
}

/// Decodes the slice's lines as a checkpoint does, from as many bytes as its tensors have.
void decode_mxfp4(const io::moe_slice& s) {
  constexpr std::uint64_t most = 1 << 14, block = io::mxfp4_block;
  std::uint64_t count = 1;
  for (const auto size : s.shape) {
    if (size > most) return;
    count *= size;
    if (count > most) return;
  }
  std::vector<std::byte> blocks(count / 2), scales(count / block);
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(i * 97 + 31);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<std::byte>(i * 41 + 7);
  std::vector<float> numbers(static_cast<std::size_t>(s.line()) * static_cast<std::size_t>(s.lines()));
  const std::uint64_t first = s.first / block, many = numbers.size() / block;
  demand(s.first % block == 0 && numbers.size() % block == 0 && first + many <= scales.size());
  io::decode_mxfp4(std::span(std::as_const(blocks)).subspan(first * (block / 2), many * (block / 2)),
                   std::span(std::as_const(scales)).subspan(first, many), std::span(numbers));
}

void check_slice(const io::moe_description& d, const std::map<std::string_view, const io::tensor_entry*>& tensors,
                 const io::moe_slice& s) {
  demand(s.rows > 0 && s.cols > 0 && s.offset + s.step * (s.rows - 1) < s.outer);
  const auto find = [&](const std::string& name) {
    const auto at = tensors.find(name);
    return at == tensors.end() ? nullptr : at->second;
  };
  if (!s.mxfp4)
    if (const auto coded = io::detail::find_coded(d, s, find)) {
      for (const auto* name : {&coded->codes, &coded->scales}) demand(find(*name) != nullptr);
      for (const auto* name : {&coded->zeros, &coded->groups, &coded->whole, &coded->shape})
        demand(name->empty() || find(*name) != nullptr);
      demand(coded->tile[0] > 0 && coded->tile[1] > 0);
      decode(s, *coded, find);
      return;
    }
  const auto at = tensors.find(s.mxfp4 ? s.tensor + "_blocks" : s.tensor);
  demand(at != tensors.end());
  auto shape = at->second->shape;
  if (s.mxfp4) {
    demand(shape.size() == s.shape.size() + 1 && shape.back() == 16);
    shape.pop_back();
    shape.back() *= 32;
    decode_mxfp4(s);
  }
  auto wanted = s.shape;
  for (auto* one : {&shape, &wanted})
    if (one->size() == 2 && one->front() == 1) one->erase(one->begin());
  demand(shape == wanted);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view cut = "\n---\n";
  const auto middle = text.find(cut);
  const auto config = nlohmann::json::parse(io::detail::with_quoted_literals(text.substr(0, middle)), nullptr, false);
  const auto entries = parse_tensors(middle == text.npos ? "" : text.substr(middle + cut.size()));
  try {
    static const io::moe_options options;  // its rows take longer to make than to try
    const auto d = io::recognise(entries, config, options);
    std::map<std::string_view, const io::tensor_entry*> tensors;
    for (const auto& entry : entries) tensors.emplace(entry.name, &entry);
    demand(d.layers() > 0 && d.experts > 0 && d.width > 0 && d.hidden > 0);
    if (d.missing.empty()) demand(d.per_token >= 1 && d.per_token <= d.candidates() && d.experts % d.groups == 0);
    for (const moue::index_t layer : {moue::index_t{0}, d.layers() - 1}) {
      check_positions(d, layer);
      for (const auto part : io::moe_parts)
        if (d.has(part))
          for (const moue::index_t e : {moue::index_t{0}, d.experts - 1})
            check_slice(d, tensors, d.slice(layer, part, e));
    }
    demand(!io::tensor_specs(d, io::dtype::bf16).empty());
  } catch (const moue::error&) {
  }
  return 0;
}
