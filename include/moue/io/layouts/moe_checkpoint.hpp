// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A checkpoint of a known family, read one canonical matrix at a time.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "moue/error.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/layouts/coded.hpp"
#include "moue/io/layouts/recognise.hpp"
#include "moue/io/low_precision.hpp"
#include "moue/io/schemes.hpp"

namespace moue::inline v0_1::io {

/// The mixture layers of a checkpoint. Opening recognises it and checks that every tensor is there; numbers are read
/// when they are asked for, with memory for one line of a matrix, or for the scales of one, beyond the caller's.
/// Move-only; const members may be called from many threads.
class moe_checkpoint {
 public:
  /// Throws as `recognise` does.
  explicit moe_checkpoint(checkpoint files, const moe_options& options = {})
      : files_(std::move(files)),
        description_(files_.config() ? recognise(entries(files_), *files_.config(), options)
                                     : recognise(entries(files_), {}, options)) {}

  /// The files that it reads.
  const checkpoint& files() const& { return files_; }
  /// What was recognised.
  const moe_description& description() const& { return description_; }
  checkpoint files() && { return std::move(files_); }
  moe_description description() && { return std::move(description_); }

  /// `part` of mixture layer `layer` (and of `expert`, for a part that each routed expert has) in canonical form,
  /// whatever its place and precision in the file. `out` has the size of `description().shape(part)`. Widening is
  /// exact, narrowing rounds to the nearest. Throws if a number is not finite, or not in `T`, naming the tensor.
  template <class T>
  void read(index_t layer, moe_part part, index_t expert, std::span<T> out) const {
    const moe_slice s = description_.slice(layer, part, expert);
    moue::detail::require(
        static_cast<index_t>(out.size()) == s.size(), description_.family.name,
        [&] { return std::to_string(out.size()) + " elements were given for " + std::to_string(s.size()); },
        "give as many as the part's shape has");
    if (s.transposed || s.step != 1)
      read_scattered(s, out);
    else
      read_lines(s, s.offset, out);
    for (const T number : out)
      if (!std::isfinite(static_cast<double>(number)) &&
          !(part == moe_part::selection_bias && static_cast<double>(number) < 0))
        throw error(detail::shown(files_.path().native()),
                    "tensor " + detail::shown(s.tensor) + " holds a number that is not finite" +
                        (s.shape.size() == 3 ? ", of expert " + std::to_string(expert) : std::string()) + ", as " +
                        std::string(name_of(dtype_of<T>())),
                    "get the file again, or read it as a wider type", error_kind::content);
  }
  /// The same in memory of its own.
  template <class T>
  std::vector<T> read(index_t layer, moe_part part, index_t expert = 0) const {
    const auto shape = description_.shape(part);
    std::vector<T> values(static_cast<std::size_t>(shape.rows * shape.cols));
    read(layer, part, expert, std::span<T>(values));
    return values;
  }

 private:
  static std::vector<tensor_entry> entries(const checkpoint& files) {
    std::vector<tensor_entry> found;
    for (auto& name : files.names()) {
      found.push_back(files.entry(name));
      found.back().name = std::move(name);  // an alias has the entry of another
    }
    return found;
  }

  // Before its use: its type is what its body says.
  auto finder() const {
    return [this](const std::string& name) { return files_.contains(name) ? &files_.entry(name) : nullptr; };
  }

  /// The expert's stored lines from `first_line` on, decoded.
  template <class T>
  void read_lines(const moe_slice& s, index_t first_line, std::span<T> out) const {
    const auto line = static_cast<std::uint64_t>(s.line());
    const auto first = s.first + static_cast<std::uint64_t>(first_line) * line;
    if (s.mxfp4) {
      const auto block = first / mxfp4_block, count = out.size() / mxfp4_block;
      decode_mxfp4(files_.bytes(s.tensor + "_blocks").subspan(block * (mxfp4_block / 2), count * (mxfp4_block / 2)),
                   files_.bytes(s.tensor + "_scales").subspan(block, count), out);
    } else if (const auto coded = detail::find_coded(description_, s, finder())) {
      decode_rows(matrix_of(s, *coded), first_line, out);
    } else {
      files_.read(s.tensor, first, out);
    }
  }

  /// What holds the expert of the slice.
  coded_matrix matrix_of(const moe_slice& s, const coded_tensors& t) const {
    const auto stored = static_cast<std::uint64_t>(s.line()) * static_cast<std::uint64_t>(s.lines());
    const std::uint64_t experts = s.shape.size() == 3 ? s.shape[0] : 1, expert = stored == 0 ? 0 : s.first / stored;
    const auto part = [&](const std::string& name) {
      const auto bytes = name.empty() ? std::span<const std::byte>() : files_.bytes(name);
      return bytes.subspan(bytes.size() / experts * expert, bytes.size() / experts);
    };
    coded_matrix m{.how = t.how->how,
                   .rows = s.lines(),
                   .cols = s.line(),
                   .type = files_.entry(t.codes).type,
                   .bits = t.bits,
                   .codes = part(t.codes),
                   .tile = t.tile,
                   .scales = {files_.entry(t.scales).type, part(t.scales)},
                   .zeros = part(t.zeros),
                   .zero = t.zero,
                   .groups = part(t.groups),
                   .whole_divides = t.how->whole_divides};
    if (!t.whole.empty()) files_.read(t.whole, 0, std::span(&m.whole, 1));
    if (!t.shape.empty()) {
      const auto shape = files_.read<double>(t.shape);
      if (shape[0] != static_cast<double>(m.rows) || shape[1] != static_cast<double>(m.cols))
        throw error(detail::shown(files_.path().native()),
                    "tensor " + detail::shown(t.shape) + " is not " + moue::detail::shape_text(m.rows, m.cols),
                    "get the file again", error_kind::content);
    }
    return m;
  }

  template <class T>
  void read_scattered(const moe_slice& s, std::span<T> out) const {
    std::vector<T> line(static_cast<std::size_t>(s.line()));
    if (s.transposed)
      for (index_t c = 0; c < s.cols; ++c) {
        read_lines(s, c, std::span<T>(line));
        for (index_t r = 0; r < s.rows; ++r)
          out[static_cast<std::size_t>(r * s.cols + c)] = line[static_cast<std::size_t>(s.offset + s.step * r)];
      }
    else
      for (index_t r = 0; r < s.rows; ++r)
        read_lines(s, s.offset + s.step * r,
                   out.subspan(static_cast<std::size_t>(r * s.cols), static_cast<std::size_t>(s.cols)));
  }

  checkpoint files_;
  moe_description description_;
};

}  // namespace moue::inline v0_1::io
