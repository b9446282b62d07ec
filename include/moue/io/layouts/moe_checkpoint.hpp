// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A checkpoint or GGUF file of a known family, read one canonical matrix at a time.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "moue/error.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/gguf.hpp"
#include "moue/io/layouts/coded.hpp"
#include "moue/io/layouts/coded_matrix.hpp"
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
      : source_(std::move(files)),
        description_(this->files().config() ? recognise(entries(this->files()), *this->files().config(), options)
                                            : recognise(entries(this->files()), {}, options)) {}
  /// The same for a GGUF file, whose keys stand for those of config.json: without the architecture before them, and
  /// with "gguf/" and the architecture for `model_type`. Throws for types that are not decoded, too.
  explicit moe_checkpoint(gguf_file file, const moe_options& options = {})
      : source_(std::move(file)),
        description_(recognise(detail::entries_of(gguf()->header()), detail::gguf_config(gguf()->header()), options)) {
    for (index_t layer = 0; layer < description_.layers(); ++layer)
      for (const auto part : moe_parts)
        if (description_.has(part)) gguf()->require_decoded(description_.tensor_name(layer, part));
  }

  /// The checkpoint. Throws if it is a GGUF file.
  const checkpoint& files() const& {
    const auto* held = std::get_if<checkpoint>(&source_);
    if (!held) throw error(where(), "is a GGUF file, not a checkpoint", "ask gguf() first");
    return *held;
  }
  void files() const&& = delete;
  /// The file or index that was opened.
  const std::filesystem::path& path() const& { return gguf() ? gguf()->path() : files().path(); }
  void path() const&& = delete;
  /// The GGUF file, or null.
  const gguf_file* gguf() const& { return std::get_if<gguf_file>(&source_); }
  void gguf() const&& = delete;
  /// What was recognised.
  const moe_description& description() const& { return description_; }
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
    if (const auto* fold = description_.fold(part)) multiply(*fold, layer, expert, s.cols, out);
    for (const T number : out)
      if (!std::isfinite(static_cast<double>(number)) &&
          !(part == moe_part::selection_bias && static_cast<double>(number) < 0))
        throw error(where(),
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

  std::string where() const { return detail::shown(path().native()); }

  // Before its use: its type is what its body says.
  auto finder() const {
    return [this](const std::string& name) { return files().contains(name) ? &files().entry(name) : nullptr; };
  }

  /// Numbers that stand beside a matrix.
  template <class T>
  void read_plain(const std::string& tensor, std::uint64_t first, std::span<T> out) const {
    if (gguf())
      gguf()->read(tensor, first, out);
    else
      files().read(tensor, first, out);
  }

  /// Each product is rounded to `T`.
  template <class T>
  void multiply(const moe_fold& fold, index_t layer, index_t expert, index_t cols, std::span<T> out) const {
    using C = compute_t<T>;
    std::vector<double> factors(static_cast<std::size_t>(fold.of_experts ? 1 : cols));
    read_plain(description_.layer_name(layer) + fold.vector, static_cast<std::uint64_t>(fold.of_experts ? expert : 0),
               std::span<double>(factors));
    if (fold.over_root)
      for (auto& factor : factors) factor /= std::sqrt(static_cast<double>(cols));
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = detail::rounded<T>(static_cast<double>(static_cast<C>(out[i])) * factors[i % factors.size()]);
  }

  /// The expert's stored lines from `first_line` on, decoded.
  template <class T>
  void read_lines(const moe_slice& s, index_t first_line, std::span<T> out) const {
    const auto line = static_cast<std::uint64_t>(s.line());
    const auto first = s.first + static_cast<std::uint64_t>(first_line) * line;
    if (gguf()) {
      gguf()->read(s.tensor, first, out);
    } else if (s.mxfp4) {
      const auto block = first / mxfp4_block, count = out.size() / mxfp4_block;
      decode_mxfp4(files().bytes(s.tensor + "_blocks").subspan(block * (mxfp4_block / 2), count * (mxfp4_block / 2)),
                   files().bytes(s.tensor + "_scales").subspan(block, count), out);
    } else if (const auto coded = detail::find_coded(description_, s, finder())) {
      decode_rows(matrix_of(s, *coded), first_line, out);
    } else {
      files().read(s.tensor, first, out);
    }
  }

  /// What holds the expert of the slice.
  coded_matrix matrix_of(const moe_slice& s, const coded_tensors& t) const {
    auto m = detail::coded_matrix_of(s, t, finder(), [&](const std::string& name) { return files().bytes(name); });
    if (!t.whole.empty()) files().read(t.whole, 0, std::span(&m.whole, 1));
    if (!t.shape.empty()) {
      const auto shape = files().read<double>(t.shape);
      if (shape[0] != static_cast<double>(m.rows) || shape[1] != static_cast<double>(m.cols))
        throw error(detail::shown(files().path().native()),
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

  std::variant<checkpoint, gguf_file> source_;
  moe_description description_;
};

}  // namespace moue::inline v0_1::io
