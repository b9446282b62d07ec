// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Canonical matrices back into a family's own names and arrangement.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/elements.hpp"
#include "moue/io/layouts/description.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/writer.hpp"

namespace moue::inline v0_1::io {

/// The type that `part` is written in where matrices are written as `type`: selection biases stay in single precision,
/// as published files have them.
constexpr dtype stored_type(moe_part part, dtype type) {
  return part == moe_part::selection_bias && bits_of(type) < 32 ? dtype::f32 : type;
}

/// Name, type and shape of every tensor that `d`'s mixture layers are written as.
inline std::vector<tensor_spec> tensor_specs(const moe_description& d, dtype type) {
  std::vector<tensor_spec> specs;
  for (index_t layer = 0; layer < d.layers(); ++layer)
    for (const auto part : moe_parts) {
      if (!d.has(part) || part == moe_part::input_gate) continue;
      const index_t apart = d.pattern(part).find("{e}") != std::string::npos ? d.experts : 1;
      for (index_t e = 0; e < apart; ++e) {
        const moe_slice s = d.slice(layer, part, e);
        if (s.offset == 0) specs.push_back({s.tensor, stored_type(part, type), s.shape});
      }
    }
  return specs;
}

/// Writes the mixture layers of a checkpoint, matrix by matrix in any order, beside tensors that are not its business.
/// Which names and which arrangement is up to `description.layout`; low-precision layouts cannot be written. Memory:
/// one matrix, and every matrix whose paired one has not come yet.
class moe_writer {
 public:
  /// Numbers are stored as `type`: f64, f32, bf16 or f16. `others` and `metadata` go into the file as they are.
  moe_writer(const std::filesystem::path& path, moe_description description, dtype type,
             const std::vector<tensor_spec>& others = {}, const std::map<std::string, std::string>& metadata = {})
      : description_(check(std::move(description), type)), type_(type), file_(path, specs(others), metadata) {}

  /// What is written.
  const moe_description& description() const { return description_; }
  /// For the other tensors.
  safetensors_writer& file() { return file_; }

  /// The counterpart of `moe_checkpoint::read`. Of a part that each expert has a copy of, the first expert's is written.
  /// Rounds to the nearest. Throws if a number is not finite in the stored
  /// type, naming the tensor.
  template <class T>
  void write(index_t layer, moe_part part, index_t expert, std::span<const T> values) {
    const moe_slice s = description_.slice(layer, part, expert);
    moue::detail::require(
        static_cast<index_t>(values.size()) == s.size(), description_.family.name,
        [&] { return std::to_string(values.size()) + " elements were given for " + std::to_string(s.size()); },
        "give as many as the part's shape has");
    if (part == moe_part::input_gate) return;  // stands in the router
    if (moe_description::copied(part) && expert > 0) return;
    switch (stored_type(part, type_)) {
      case dtype::f64:
        return store<double>(s, part, values);
      case dtype::f32:
        return store<float>(s, part, values);
      case dtype::bf16:
        return store<bf16>(s, part, values);
      default:
        return store<half>(s, part, values);
    }
  }

  /// Throws if a matrix is missing; then, or without a call, nothing is left at the path that was not there before.
  void commit() {
    if (!waiting_.empty())
      throw error(description_.family.name,
                  "of tensor " + detail::shown(waiting_.begin()->first.first) + " only one of two paired matrices came",
                  "write both the gate and the up part");
    file_.commit();
  }

 private:
  /// The elements of an expert in a tensor, while one of its two matrices is still to come.
  struct half_written {
    std::vector<std::byte> bytes;
    bool there[2] = {false, false};
  };

  static moe_description check(moe_description d, dtype type) {
    moue::detail::require(
        type == dtype::f64 || type == dtype::f32 || type == dtype::bf16 || type == dtype::f16, d.family.name,
        [&] { return "numbers cannot be stored as " + std::string(name_of(type)); }, "choose F64, F32, BF16 or F16");
    moue::detail::require(
        !d.layout.experts.mxfp4, d.family.name,
        [&] { return "layout '" + d.layout.name + "' has blocks of low precision, which are not written"; },
        "set the description's layout to another of the family, or copy the tensors' bytes");
    moue::detail::require(
        d.layout.folds.empty() && !d.layout.experts.unused_gates, d.family.name,
        [&] {
          return "layout '" + d.layout.name + "' has " +
                 (d.layout.folds.empty() ? "entries that nobody reads" : "matrices that are products of its tensors") +
                 ", which are not written";
        },
        "copy the tensors' bytes");
    return d;
  }

  std::vector<tensor_spec> specs(const std::vector<tensor_spec>& others) const {
    auto all = tensor_specs(description_, type_);
    all.insert(all.end(), others.begin(), others.end());
    return all;
  }

  template <class S, class T>
  void store(const moe_slice& s, moe_part part, std::span<const T> values) {
    std::vector<S> numbers(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      numbers[i] = detail::rounded<S>(static_cast<compute_t<T>>(values[i]));
      const auto number = static_cast<double>(numbers[i]);
      if (!std::isfinite(number) && !(part == moe_part::selection_bias && number < 0))
        throw error(description_.family.name,
                    "element " + std::to_string(i) + " of what belongs into tensor " + detail::shown(s.tensor) +
                        " is not finite as " + std::string(name_of(dtype_of<S>())),
                    "store it as a wider type, or fix the weights", error_kind::numbers);
    }
    if (!s.transposed && s.step == 1) {
      file_.write(s.tensor, (s.first + static_cast<std::uint64_t>(s.offset * s.cols)) * sizeof(S),
                  std::as_bytes(std::span(numbers)));
      return;
    }
    auto& expert = waiting_[{s.tensor, s.first}];
    expert.bytes.resize(static_cast<std::size_t>(s.outer * s.cols) * sizeof(S));
    for (index_t r = 0; r < s.rows; ++r)
      for (index_t c = 0; c < s.cols; ++c)
        std::memcpy(expert.bytes.data() + static_cast<std::size_t>(s.position(r, c)) * sizeof(S),
                    &numbers[static_cast<std::size_t>(r * s.cols + c)], sizeof(S));
    expert.there[s.offset == 0 ? 0 : 1] = true;
    if (s.outer > s.rows && !(expert.there[0] && expert.there[1])) return;
    file_.write(s.tensor, s.first * sizeof(S), expert.bytes);
    waiting_.erase({s.tensor, s.first});
  }

  moe_description description_;
  dtype type_;
  std::map<std::pair<std::string, std::uint64_t>, half_written> waiting_;
  safetensors_writer file_;
};

}  // namespace moue::inline v0_1::io
