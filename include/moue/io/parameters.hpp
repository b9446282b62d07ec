// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A model's weights to a file and back.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "moue/parameter.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::io {

namespace detail {

/// For every tensor the first one that lies at the same place with the same shape: itself, unless memory was given twice.
template <Storage S>
std::vector<index_t> first_owners(const parameters<S>& values) {
  std::map<std::pair<const S*, std::pair<index_t, index_t>>, index_t> first;
  std::vector<index_t> owners;
  for (index_t i = 0; i < values.layout().tensors(); ++i) {
    const auto view = values[i];
    owners.push_back(view.empty() ? i : first.try_emplace({view.data, {view.rows, view.cols}}, i).first->second);
  }
  return owners;
}

}  // namespace detail

/// Writes all tensors under the names of the layout, as `[rows, cols]` of the type they are stored in, and replaces
/// `path` at one instant; see `atomic_file`. Tensors that were given the same memory are stored once, the others as
/// aliases. `S`: `double`, `float`, `bf16` or `half`.
template <Storage S>
void save(const std::filesystem::path& path, const parameters<S>& values, string_map metadata = {}) {
  static_assert(dtype_of<S>() != dtype::unknown, "moue: files know no type for these numbers: save a copy in float");
  const auto& layout = values.layout();
  const auto owners = detail::first_owners(values);
  std::vector<tensor_spec> specs;
  string_map aliases;
  for (index_t i = 0; i < layout.tensors(); ++i) {
    const auto& info = layout[i];
    const auto owner = owners[static_cast<std::size_t>(i)];
    if (owner == i)
      specs.push_back(
          {info.name, dtype_of<S>(), {static_cast<std::uint64_t>(info.rows), static_cast<std::uint64_t>(info.cols)}});
    else
      aliases.emplace(info.name, layout[owner].name);
  }
  safetensors_writer writer(path, std::move(specs), std::move(metadata), std::move(aliases));
  for (index_t i = 0; i < layout.tensors(); ++i)
    if (owners[static_cast<std::size_t>(i)] == i)
      writer.write(layout[i].name, 0,
                   std::as_bytes(std::span(values[i].data, static_cast<std::size_t>(layout[i].size()))));
  writer.commit();
}

namespace detail {

/// Looks at one stored tensor and tells what keeps it from becoming tensor `info` of a model.
template <Storage S>
class tensor_check {
 public:
  tensor_check(const checkpoint& from, const std::string& name, const tensor_info& info)
      : from_(from), name_(name), info_(info) {}

  void run() const {
    if (!from_.contains(name_)) refuse("is missing", "check that the checkpoint is of this model, and the prefix");
    const auto& entry = from_.entry(name_);
    check_shape(entry.shape);
    if (entry.type != dtype::f32 && entry.type != dtype::bf16 && entry.type != dtype::f16 && entry.type != dtype::f64)
      refuse("has type " + shown(entry.type_name) + ", which is not that of weights",
             "decode it first: moue/io/low_precision.hpp has the common schemes");
    check_values();
  }

 private:
  [[noreturn]] void refuse(const std::string& what, std::string_view fix) const {
    throw error(shown(from_.path().native()), "tensor " + shown(name_) + " " + what, fix, error_kind::content);
  }

  void check_shape(const std::vector<std::uint64_t>& shape) const {
    const auto rows = static_cast<std::uint64_t>(info_.rows), cols = static_cast<std::uint64_t>(info_.cols);
    if (shape == std::vector{rows, cols} || (rows == 1 && shape == std::vector{cols})) return;
    std::string text;
    for (const auto size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    refuse("has shape [" + text + "] where the model has " + moue::detail::shape_text(info_.rows, info_.cols),
           "check that the checkpoint is of this model");
  }

  /// Buffers that a controller sets may say minus infinity ("closed"); weights may not.
  void check_values() const {
    std::array<S, 4096> block;
    const auto count = static_cast<std::uint64_t>(info_.size());
    for (std::uint64_t first = 0; first < count; first += block.size()) {
      const auto part = std::span(block).first(detail::as_size((std::min<std::uint64_t>)(block.size(), count - first)));
      from_.read<S>(name_, first, part);
      for (std::size_t i = 0; i < part.size(); ++i) {
        const auto value = static_cast<compute_t<S>>(part[i]);
        const bool is_nan = value != value;
        if (is_nan || (info_.trained && !moue::detail::is_finite(value)))
          refuse(std::string(is_nan ? "holds NaN" : "holds infinity, or a number too large for this model's type,") +
                     " at element " + std::to_string(first + i),
                 "the weights are damaged: take an earlier checkpoint");
      }
    }
  }

  const checkpoint& from_;
  const std::string& name_;
  const tensor_info& info_;
};

inline void refuse_extra_tensors(const checkpoint& from, const std::set<std::string>& wanted, std::string_view prefix) {
  for (const auto& name : from.names())
    if (name.starts_with(prefix) && !wanted.contains(name))
      throw error(shown(from.path().native()), "tensor " + shown(name) + " has no place in the model",
                  "check that the checkpoint is of this model, and the prefix", error_kind::content);
}

inline bool same_content(const checkpoint& from, const std::string& a, const std::string& b) {
  const auto x = from.bytes(a), y = from.bytes(b);
  return x.data() == y.data() || (from.entry(a).type == from.entry(b).type && std::ranges::equal(x, y));
}

}  // namespace detail

/// Reads every tensor of the layout from the tensor of that name behind `prefix`, converting to `S` with rounding to the
/// nearest. All or nothing: throws, naming the tensor, and changes nothing, if one is missing, has another shape (a single
/// row may be stored as a vector) or another type than f16, bf16, f32 or f64, holds NaN, holds infinity in a trained
/// tensor, if a name behind `prefix` has no place in the model, or if tensors that were given the same memory are stored
/// with different numbers. Reads the file twice and needs no memory of its own.
template <Storage S>
void load(const checkpoint& from, parameters<S>& values, std::string_view prefix = "") {
  static_assert(dtype_of<S>() != dtype::unknown, "moue: files know no type for these numbers: load a copy in float");
  const auto& layout = values.layout();
  const auto owners = detail::first_owners(values);
  std::vector<std::string> names;
  for (const auto& info : layout) names.push_back(std::string(prefix) + info.name);
  for (index_t i = 0; i < layout.tensors(); ++i) {
    const auto& name = names[static_cast<std::size_t>(i)];
    detail::tensor_check<S>(from, name, layout[i]).run();
    const auto& owner = names[static_cast<std::size_t>(owners[static_cast<std::size_t>(i)])];
    moue::detail::require(
        detail::same_content(from, name, owner), detail::shown(from.path().native()),
        [&] {
          return "tensors " + detail::shown(owner) + " and " + detail::shown(name) +
                 " differ, but the model keeps them in the same memory";
        },
        "give each its own memory, or check that the checkpoint is of this model", error_kind::content);
  }
  detail::refuse_extra_tensors(from, {names.begin(), names.end()}, prefix);
  for (index_t i = 0; i < layout.tensors(); ++i)
    from.read<S>(names[static_cast<std::size_t>(i)], 0,
                 std::span(values[i].data, static_cast<std::size_t>(layout[i].size())));
}

}  // namespace moue::inline v0_1::io
