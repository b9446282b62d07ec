// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Named parameters: where the numbers of a model lie.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/parameter/layout.hpp"
#include "moue/random.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

namespace detail {

template <class T, class S>
concept pointers_to = requires(const T& list) {
  { std::size(list) } -> std::convertible_to<std::size_t>;
  requires std::is_same_v<std::remove_cvref_t<decltype(*std::data(list))>, S*>;
};

inline void require_pointers(const parameter_layout& layout, std::size_t given, std::string_view where) {
  require(
      static_cast<index_t>(given) == layout.tensors(), where,
      [&] {
        return std::to_string(given) + " pointers were given for " + std::to_string(layout.tensors()) + " tensors";
      },
      "give one pointer per tensor, in the order of the layout");
}

[[noreturn]] inline void refuse_empty(std::string_view where, std::string_view what) {
  throw error(where, std::string(what) + " are empty: they were made without a layout, or moved from",
              "give those that were made with a mixture's layout()");
}
/// The layout itself, unless there is none: of what was default-constructed or moved from.
inline const std::shared_ptr<const parameter_layout>& require_layout(
    const std::shared_ptr<const parameter_layout>& layout, std::string_view where, std::string_view what) {
  if (layout == nullptr) [[unlikely]]
    refuse_empty(where, what);
  return layout;
}

}  // namespace detail

/// The numbers behind a layout, stored as `S`: either owned in one contiguous buffer, or external, tensor by tensor, from
/// the caller, who keeps them alive. Row-major, rows densely packed. External memory may be read-only, such as a mapped
/// file: all that reads works, and what would write throws.
///
/// A copy of owned numbers is a copy. Of external ones nobody can tell whether a copy means the numbers or the memory, so
/// copying throws: say `clone()` or `alias()`. Without a layout (default-constructed, or moved from) every use but
/// assignment and `shared_layout` throws.
template <Storage S>
class parameters {
 public:
  using value_type = S;

  parameters() = default;
  /// Owned, all zero.
  explicit parameters(std::shared_ptr<const parameter_layout> layout) : layout_(std::move(layout)) {
    detail::require_layout(layout_, where, "the parameters");
    storage_.assign(static_cast<std::size_t>(layout_->elements()), S(0));
    pointers_.reserve(static_cast<std::size_t>(layout_->tensors()));
    for (const auto& info : *layout_) pointers_.push_back(storage_.data() + info.offset);
  }
  /// External: `tensors[i]`, of type `S*`, points at the elements of tensor `i`.
  template <detail::pointers_to<S> Pointers>
  parameters(std::shared_ptr<const parameter_layout> layout, const Pointers& tensors)
      : parameters(std::move(layout), std::span<const S* const>(to_read(tensors)), true) {}
  /// The same with pointers of type `const S*`, to memory that is only read.
  template <detail::pointers_to<const S> Pointers>
  parameters(std::shared_ptr<const parameter_layout> layout, const Pointers& tensors)
      : parameters(std::move(layout), std::span<const S* const>(std::data(tensors), std::size(tensors)), false) {}

  /// Throws if the memory is external.
  parameters(const parameters& other)
      : layout_(other.layout_), storage_(other.storage_), pointers_(other.pointers_), writable_(other.writable_) {
    detail::require(
        layout_ == nullptr || other.owned(), where,
        [] { return std::string("a copy of external memory was asked for"); },
        "say clone() for numbers of its own, alias() for the same memory, or move");
    for (std::size_t i = 0; i < pointers_.size(); ++i)
      pointers_[i] = storage_.data() + (other.pointers_[i] - other.storage_.data());
  }
  parameters& operator=(const parameters& other) {
    if (this != &other) *this = parameters(other);
    return *this;
  }
  parameters(parameters&&) noexcept = default;  // a moved vector keeps its buffer, so the pointers stay right
  parameters& operator=(parameters&&) noexcept = default;
  ~parameters() = default;

  /// Numbers of its own, read from memory that the host can read.
  parameters clone() const {
    parameters result(shared_layout());
    for (index_t i = 0; i < layout().tensors(); ++i) std::copy_n((*this)[i].data, layout()[i].size(), result[i].data);
    return result;
  }
  /// The same memory, which has to outlive the result.
  parameters alias() {
    parameters result;
    result.layout_ = detail::require_layout(layout_, where, "the parameters");
    result.pointers_ = pointers_;
    result.writable_ = writable_;
    return result;
  }

  /// The layout they were made with. Throws if there is none.
  const parameter_layout& layout() const& { return *detail::require_layout(layout_, where, "the parameters"); }
  const parameter_layout& layout() const&& = delete;
  /// Null if there is none.
  const std::shared_ptr<const parameter_layout>& shared_layout() const& { return layout_; }
  std::shared_ptr<const parameter_layout> shared_layout() && { return std::move(layout_); }
  /// Whether the memory is its own.
  bool owned() const { return !storage_.empty() || layout().elements() == 0; }
  /// Whether tensor `i` may be changed.
  bool writable(index_t tensor) const {
    detail::require_index(tensor, layout().tensors(), where, "tensor");
    return writable_.empty() || writable_[static_cast<std::size_t>(tensor)] != 0;
  }

  /// Lets external tensor `i` lie elsewhere from now on. Passes over these weights may live, but none of their members,
  /// nor an optimiser, may be running. What its new memory holds counts at the next call that reads it.
  void rebind(index_t tensor, S* memory) { rebind(tensor, memory, true); }
  void rebind(index_t tensor, const S* memory) { rebind(tensor, memory, false); }

  /// Throws if the memory is read-only.
  matrix_view<S> operator[](index_t tensor) & {
    const auto& info = layout()[tensor];
    detail::require(
        writable(tensor), where, [&] { return "'" + info.name + "' was to be changed, but its memory is read-only"; },
        "give memory that may be written, or read through a const reference");
    return {const_cast<S*>(pointers_[static_cast<std::size_t>(tensor)]), info.rows, info.cols};
  }
  /// Tensor `tensor`, to be read.
  matrix_view<const S> operator[](index_t tensor) const& {
    const auto& info = layout()[tensor];
    return {pointers_[static_cast<std::size_t>(tensor)], info.rows, info.cols};
  }
  /// The tensor called `name`; linear search, not for the hot path.
  matrix_view<S> operator[](std::string_view name) & { return (*this)[layout().find(name)]; }
  matrix_view<const S> operator[](std::string_view name) const& { return (*this)[layout().find(name)]; }
  void operator[](index_t tensor) const&& = delete;
  void operator[](std::string_view name) const&& = delete;

 private:
  static constexpr std::string_view where = "parameters";

  parameters(std::shared_ptr<const parameter_layout> layout, std::span<const S* const> tensors, bool writable)
      : layout_(std::move(layout)), pointers_(tensors.begin(), tensors.end()) {
    detail::require_layout(layout_, where, "the parameters");
    detail::require_pointers(*layout_, tensors.size(), where);
    for (index_t i = 0; i < layout_->tensors(); ++i) require_memory(i, tensors[static_cast<std::size_t>(i)]);
    if (!writable) writable_.assign(tensors.size(), 0);
  }
  static std::vector<const S*> to_read(const auto& tensors) {
    return {std::data(tensors), std::data(tensors) + std::size(tensors)};
  }
  void require_memory(index_t tensor, const S* memory) const {
    detail::require(
        memory != nullptr || (*layout_)[tensor].size() == 0, where,
        [&] { return "the pointer given for '" + (*layout_)[tensor].name + "' is null"; },
        "give memory for every tensor");
  }
  void rebind(index_t tensor, const S* memory, bool writable) {
    detail::require(
        tensor >= 0 && tensor < layout().tensors(), where,
        [&] {
          return "tensor " + std::to_string(tensor) + " of " + std::to_string(layout().tensors()) +
                 " was to be rebound";
        },
        "give the position of a tensor in the layout");
    detail::require(
        !owned(), where, [] { return std::string("a tensor that lies in owned memory was to be rebound"); },
        "make the parameters of external memory");
    require_memory(tensor, memory);
    if (writable_.empty()) writable_.assign(pointers_.size(), 1);
    pointers_[static_cast<std::size_t>(tensor)] = memory;
    writable_[static_cast<std::size_t>(tensor)] = writable ? 1 : 0;
  }

  std::shared_ptr<const parameter_layout> layout_;
  std::vector<S> storage_;
  std::vector<const S*> pointers_;
  std::vector<std::uint8_t> writable_;  // of each tensor; empty: all
};

namespace detail {

/// Throws if the weights have none.
template <Storage S>
const std::shared_ptr<const parameter_layout>& layout_of(const parameters<S>& weights, std::string_view where) {
  return require_layout(weights.shared_layout(), where, "the weights");
}

inline double normal_at(std::uint64_t key, std::uint64_t position) {
  constexpr double two_pi = 6.283185307179586476925;
  return std::sqrt(-2.0 * std::log(uniform_at(key, 2 * position))) *
         std::cos(two_pi * uniform_at(key, 2 * position + 1));
}

}  // namespace detail

/// Fills every tensor as its declaration asks. A tensor's numbers depend on `seed` and its name alone, so models that
/// share a tensor's name and shape start alike in it.
template <Storage S>
void initialize(parameters<S>& values, std::uint64_t seed) {
  for (index_t i = 0; i < values.layout().tensors(); ++i) {
    const auto& info = values.layout()[i];
    std::uint64_t key = detail::mix(seed);
    for (const char c : info.name) key = detail::mix(key ^ static_cast<unsigned char>(c));
    auto* out = values[i].data;
    for (index_t j = 0; j < info.size(); ++j) {
      const auto position = static_cast<std::uint64_t>(j);
      double value = info.init.value;
      if (info.init.what == initializer::kind::normal) value *= detail::normal_at(key, position);
      if (info.init.what == initializer::kind::uniform) value *= 2 * detail::uniform_at(key, position) - 1;
      out[j] = S(static_cast<compute_t<S>>(value));
    }
  }
}

}  // namespace moue::inline v0_1
