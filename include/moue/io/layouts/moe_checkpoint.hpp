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
#include "moue/io/layouts/recognise.hpp"
#include "moue/io/low_precision.hpp"

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

  const checkpoint& files() const { return files_; }
  const moe_description& description() const { return description_; }

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
                    "get the file again, or read it as a wider type");
  }
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

  /// The expert's stored lines from `first_line` on, decoded.
  template <class T>
  void read_lines(const moe_slice& s, index_t first_line, std::span<T> out) const {
    const auto line = static_cast<std::uint64_t>(s.line());
    const auto first = s.first + static_cast<std::uint64_t>(first_line) * line;
    if (s.mxfp4) {
      const auto block = first / mxfp4_block, count = out.size() / mxfp4_block;
      decode_mxfp4(files_.bytes(s.tensor + "_blocks").subspan(block * (mxfp4_block / 2), count * (mxfp4_block / 2)),
                   files_.bytes(s.tensor + "_scales").subspan(block, count), out);
    } else if (files_.entry(s.tensor).type == dtype::f8_e4m3) {
      const auto [height, width] = description_.tile;
      const index_t begin = first_line / height;
      const index_t end = (first_line + static_cast<index_t>(out.size() / line) + height - 1) / height;
      const index_t across = (s.line() + width - 1) / width, down = (s.lines() + height - 1) / height;
      const auto expert = static_cast<index_t>(s.first / (line * static_cast<std::uint64_t>(s.lines())));
      std::vector<float> scales(static_cast<std::size_t>((end - begin) * across));
      const auto& stored = files_.entry(s.tensor + "_scale_inv");
      const auto before = static_cast<std::size_t>((expert * down + begin) * across * bits_of(stored.type) / 8);
      decode_scales(stored.type, files_.bytes(stored.name).data() + before, std::span<float>(scales),
                    detail::shown(stored.name));
      decode_tiles(dtype::f8_e4m3, files_.bytes(s.tensor).subspan(first, out.size()), s.line(), scales,
                   description_.tile, first_line - begin * height, out);
    } else {
      files_.read(s.tensor, first, out);
    }
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
