// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A checkpoint of a known family, read one canonical matrix at a time.

#include <algorithm>
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
#include "moue/io/layouts/recognise.hpp"
#include "moue/io/minifloat.hpp"

namespace moue::io {

/// The mixture layers of a checkpoint. Opening recognises it and checks that every tensor is there; numbers are read when
/// they are asked for, with memory for one line of one matrix beyond the caller's. Move-only; const members may be called
/// from many threads.
class moe_checkpoint {
 public:
  /// Throws as `recognise` does.
  explicit moe_checkpoint(checkpoint files, const moe_options& options = {})
      : files_(std::move(files)),
        description_(recognise(entries(files_), files_.config().value_or(nlohmann::json()), options)) {}

  const checkpoint& files() const { return files_; }
  const moe_description& description() const { return description_; }

  /// `part` of mixture layer `layer` (and of `expert`, for a part that each routed expert has) in canonical form,
  /// whatever its place and precision in the file. `out` has the size of `description().shape(part)`. Widening is exact,
  /// narrowing rounds to the nearest. Throws if a number is not finite, or not in `T`, naming the tensor.
  template <class T>
  void read(index layer, moe_part part, index expert, std::span<T> out) const {
    const moe_slice s = description_.slice(layer, part, expert);
    moue::detail::require(
        static_cast<index>(out.size()) == s.size(), description_.family.name,
        [&] { return std::to_string(out.size()) + " elements were lent for " + std::to_string(s.size()); },
        "lend as many as the part's shape has");
    const bool coded = s.mxfp4 || files_.entry(s.tensor).type == dtype::f8_e4m3;
    if (!coded && !s.transposed && s.step == 1)
      files_.read(s.tensor, s.first + static_cast<std::uint64_t>(s.offset * s.cols), out);
    else
      read_lines(s, coded, out);
    for (const T number : out)
      if (!std::isfinite(static_cast<double>(number)) &&
          !(part == moe_part::selection_bias && static_cast<double>(number) < 0))
        throw error(detail::shown(files_.path().native()),
                    "tensor " + detail::shown(s.tensor) + " holds a number that is not finite" +
                        (s.shape.size() == 3 ? ", of expert " + std::to_string(expert) : std::string()) + ", as " +
                        std::string(name_of(dtype_of<T>())),
                    "get the file again, or read it as a wider type");
  }
  template <class T>
  std::vector<T> read(index layer, moe_part part, index expert = 0) const {
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

  template <class T>
  void read_lines(const moe_slice& s, bool coded, std::span<T> out) const {
    std::vector<T> line(static_cast<std::size_t>(s.line()));
    std::vector<float> scratch;
    for (index i = 0; i < s.lines(); ++i) {
      const index row = (i - s.offset) / s.step;
      if (!s.transposed && (i < s.offset || row >= s.rows || s.offset + s.step * row != i)) continue;
      if (coded)
        decode_line(s, i, scratch, std::span<T>(line));
      else
        files_.read(s.tensor, s.first + static_cast<std::uint64_t>(i * s.line()), std::span<T>(line));
      if (s.transposed)
        for (index r = 0; r < s.rows; ++r)
          out[static_cast<std::size_t>(r * s.cols + i)] = line[static_cast<std::size_t>(s.offset + s.step * r)];
      else
        std::copy(line.begin(), line.end(), out.begin() + row * s.cols);
    }
  }

  /// Stored line `i` of the expert, which is row i of a matrix [.., outer, cols] in blocks or tiles.
  template <class T>
  void decode_line(const moe_slice& s, index i, std::vector<float>& scales, std::span<T> out) const {
    const auto stored_row = s.first / static_cast<std::uint64_t>(s.line()) + static_cast<std::uint64_t>(i);
    const index step = s.mxfp4 ? 32 : description_.tile[1];
    const index parts = (s.line() + step - 1) / step;
    scales.resize(static_cast<std::size_t>(parts));
    if (s.mxfp4) {
      const auto first = stored_row * static_cast<std::uint64_t>(parts);
      const auto exponents = files_.bytes(s.tensor + "_scales").subspan(first, static_cast<std::size_t>(parts));
      const auto codes = files_.bytes(s.tensor + "_blocks").subspan(first * 16, static_cast<std::size_t>(parts) * 16);
      for (std::size_t j = 0; j < out.size(); ++j) {
        const auto code = static_cast<std::uint8_t>(codes[j / 2]);
        const float value = value_of_e2m1(static_cast<std::uint8_t>(j % 2 == 0 ? code & 15 : code >> 4));
        out[j] = detail::rounded<T>(value * value_of_e8m0(static_cast<std::uint8_t>(exponents[j / 32])));
      }
    } else {
      const auto rows = static_cast<std::uint64_t>(s.lines()), tall = static_cast<std::uint64_t>(description_.tile[0]);
      const auto tile_row = stored_row / rows * ((rows + tall - 1) / tall) + stored_row % rows / tall;
      files_.read(s.tensor + "_scale_inv", tile_row * static_cast<std::uint64_t>(parts), std::span<float>(scales));
      files_.read(s.tensor, stored_row * static_cast<std::uint64_t>(s.line()), out);
      for (std::size_t j = 0; j < out.size(); ++j)
        out[j] = T(static_cast<compute_t<T>>(out[j]) *
                   static_cast<compute_t<T>>(scales[j / static_cast<std::size_t>(step)]));
    }
  }

  checkpoint files_;
  moe_description description_;
};

}  // namespace moue::io
