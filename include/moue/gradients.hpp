// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Gradients: a tensor for every parameter whose gradient is wanted, and a mark that says whether it holds numbers.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/gradients/targets.hpp"
#include "moue/parameter.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

namespace detail {

/// What takes gradients says so where their type is not that of the weights' arithmetic.
template <class Other>
constexpr void refuse_gradients() {
  static_assert(never<Other>,
                "moue: gradients are in the compute type of the weights: 'gradients<float>' for weights in float, bf16 "
                "and half, 'gradients<double>' for weights in double");
}

}  // namespace detail

/// Every tensor that is trained: what gradients hold unless they are told otherwise.
struct every_trained {
  /// Always true: asked about trained tensors only.
  bool operator()(const tensor_info&) const { return true; }
};

/// The gradients of a model in the compute type. A tensor that is not `trained`, or that nobody wants, has no memory and
/// costs no product. The others have a mark each: a tensor is `live` if it was written since the last `reset`; the first
/// write of a pass assigns, later ones add, also over several batches. What is not live holds unspecified numbers, and
/// optimisers, clipping and norms do not read it. So between two steps `reset()` is enough, and an expert that no token
/// reached costs nothing. Who reads whole buffers calls `finish()` after the last backward.
///
/// Memory is owned, on the host, or external; then it may lie on a device, and so do the marks: `live`, `reset`, `zero` and
/// `finish` are for the host's memory, `gradient_sweep` and the backend's own objects do the same elsewhere. A copy of
/// external gradients throws, as that of `parameters` does.
template <class C>
class gradients {
  static_assert(!std::is_integral_v<C>, "moue: gradients are no integers; their type is compute_t of the weights'");

 public:
  /// Owned: zeros, and nothing live. `wanted` is asked once for every trained tensor.
  template <std::predicate<const tensor_info&> Wanted = every_trained>
  explicit gradients(std::shared_ptr<const parameter_layout> layout, const Wanted& wanted = {})
      : layout_(std::move(layout)) {
    detail::require_layout(layout_, where, "the gradients");
    std::vector<index_t> starts;
    index_t elements = 0;
    for (const auto& info : *layout_) {
      const bool has_memory = info.trained && info.size() > 0 && wanted(info);
      starts.push_back(has_memory ? elements : -1);
      if (has_memory) elements += info.size();
    }
    storage_.assign(static_cast<std::size_t>(elements), C(0));
    for (const index_t start : starts) pointers_.push_back(start < 0 ? nullptr : storage_.data() + start);
    own_marks_.assign(pointers_.size(), 0);
  }
  /// External: a pointer of type `C*` for every tensor, null where the gradient is not wanted. No two tensors may share
  /// memory. `marks` [tensors] say which of them hold numbers, zeros at first; null `marks` are owned, on the host.
  template <detail::pointers_to<C> Pointers>
  gradients(std::shared_ptr<const parameter_layout> layout, const Pointers& tensors, std::uint8_t* marks = nullptr)
      : layout_(std::move(layout)),
        pointers_(std::data(tensors), std::data(tensors) + std::size(tensors)),
        external_marks_(marks),
        external_(true) {
    detail::require_layout(layout_, where, "the gradients");
    detail::require_pointers(*layout_, pointers_.size(), where);
    for (index_t i = 0; i < layout_->tensors(); ++i)
      if (!(*layout_)[i].trained || (*layout_)[i].size() == 0) pointers_[static_cast<std::size_t>(i)] = nullptr;
    refuse_overlaps();
    if (marks == nullptr) own_marks_.assign(pointers_.size(), 0);
  }

  /// Throws if the memory is external.
  gradients(const gradients& other)
      : layout_(other.layout_), storage_(other.storage_), pointers_(other.pointers_), own_marks_(other.own_marks_) {
    detail::require(
        !other.external_, where, [] { return std::string("a copy of external memory was asked for"); },
        "make gradients of their own and copy the numbers, or move");
    for (auto& pointer : pointers_)
      if (pointer != nullptr) pointer = storage_.data() + (pointer - other.storage_.data());
  }
  gradients& operator=(const gradients& other) {
    if (this != &other) *this = gradients(other);
    return *this;
  }
  gradients(gradients&&) noexcept = default;
  gradients& operator=(gradients&&) noexcept = default;
  ~gradients() = default;

  /// The layout they were made with. Throws if there is none.
  const parameter_layout& layout() const& { return *detail::require_layout(layout_, where, "the gradients"); }
  const parameter_layout& layout() const&& = delete;
  /// Null if there is none.
  const std::shared_ptr<const parameter_layout>& shared_layout() const& { return layout_; }
  std::shared_ptr<const parameter_layout> shared_layout() && { return std::move(layout_); }

  /// Empty if it is not wanted; unspecified numbers if it is not `live`.
  matrix_view<C> operator[](index_t tensor) & { return at<C>(tensor); }
  matrix_view<const C> operator[](index_t tensor) const& { return at<const C>(tensor); }
  /// The tensor called `name`; linear search, not for the hot path.
  matrix_view<C> operator[](std::string_view name) & { return at<C>(layout().find(name)); }
  matrix_view<const C> operator[](std::string_view name) const& { return at<const C>(layout().find(name)); }
  void operator[](index_t tensor) const&& = delete;
  void operator[](std::string_view name) const&& = delete;

  /// Whether tensor `i` has memory.
  bool wanted(index_t tensor) const {
    detail::require_index(tensor, layout().tensors(), where, "tensor");
    return pointers_[static_cast<std::size_t>(tensor)] != nullptr;
  }
  /// Whether tensor `i` holds numbers.
  bool live(index_t tensor) const { return wanted(tensor) && marks()[tensor] != 0; }
  /// Whether a tensor of physical expert `e` holds numbers. Linear in its tensors.
  bool touched(index_t expert) const {
    bool any = false;
    for (index_t i = layout().expert_first(expert); i < layout().tensors() && layout()[i].expert == expert; ++i)
      any = any || live(i);
    return any;
  }
  /// Says that the caller filled tensor `i`. Nothing happens if it is not wanted.
  void set_live(index_t tensor) {
    if (wanted(tensor)) marks()[tensor] = 1;
  }

  /// Whether the numbers lie in memory of its own.
  bool owned() const { return !external_; }
  /// Whether the marks do.
  bool owns_marks() const { return external_marks_ == nullptr; }
  /// [tensors] not 0 where a tensor was written.
  vector_view<std::uint8_t> marks() & {
    return {owns_marks() ? own_marks_.data() : external_marks_, layout().tensors()};
  }
  vector_view<const std::uint8_t> marks() const& {
    return {owns_marks() ? own_marks_.data() : external_marks_, layout().tensors()};
  }
  vector_view<const std::uint8_t> marks() const&& = delete;

  /// Nothing is live any more. Writes no tensor.
  void reset() {
    for (auto& mark : marks()) mark = 0;
  }
  /// Every tensor is zero and none is live, whatever the memory held before.
  void zero() {
    for (index_t i = 0; i < layout().tensors(); ++i) clear(i);
    reset();
  }
  /// Zeros in every tensor that is wanted but not live, so that all of them can be read. They stay not live.
  void finish() {
    for (index_t i = 0; i < layout().tensors(); ++i)
      if (!live(i)) clear(i);
  }

  /// Where a call of a policy writes tensor `i`, see `detail::call_targets`.
  gradient_target<C> target(index_t tensor, bool& written) {
    if (!wanted(tensor)) return {};
    return {at<C>(tensor), marks().data + tensor, &written};
  }

 private:
  static constexpr std::string_view where = "gradients";

  template <class T>
  matrix_view<T> at(index_t tensor) const {
    const auto& info = layout()[tensor];
    C* const data = pointers_[static_cast<std::size_t>(tensor)];
    if (data == nullptr) return {};
    return {data, info.rows, info.cols};
  }
  void clear(index_t tensor) {
    if (wanted(tensor)) std::fill_n(pointers_[static_cast<std::size_t>(tensor)], layout()[tensor].size(), C(0));
  }
  void refuse_overlaps() const {
    std::vector<index_t> order;
    for (index_t i = 0; i < layout().tensors(); ++i)
      if (wanted(i)) order.push_back(i);
    const auto begin = [&](index_t i) { return pointers_[static_cast<std::size_t>(i)]; };
    std::sort(order.begin(), order.end(), [&](index_t a, index_t b) { return std::less<C*>{}(begin(a), begin(b)); });
    for (std::size_t i = 1; i < order.size(); ++i) {
      const index_t before = order[i - 1], after = order[i];
      detail::require(
          !std::less<C*>{}(begin(after), begin(before) + layout()[before].size()), where,
          [&] { return "'" + layout()[before].name + "' and '" + layout()[after].name + "' share memory"; },
          "give each tensor memory of its own, or null where no gradient is wanted");
    }
  }

  std::shared_ptr<const parameter_layout> layout_;
  std::vector<C> storage_;
  std::vector<C*> pointers_;
  std::vector<std::uint8_t> own_marks_;
  std::uint8_t* external_marks_ = nullptr;
  bool external_ = false;
};

namespace detail {

/// Marks the tensors of a list; −1 marks none. They are named by number: g++ 12 loses stores through pointers that lie in
/// a copied array.
template <std::size_t N>
struct set_marks {
  std::uint8_t* marks;
  std::array<std::int32_t, N> tensors;
  MOUE_HD void operator()(index_t i) const {
    const std::int32_t tensor = tensors[static_cast<std::size_t>(i)];
    if (tensor >= 0) marks[tensor] = 1;
  }
};

/// What one call of a policy may write: the targets of its N tensors, whose marks `settle` sets after the call.
template <class C, std::size_t N>
class call_targets {
 public:
  /// `tensor_of(i)`: which tensor the policy's i-th parameter is.
  template <class TensorOf>
  call_targets(gradients<C>& into, const TensorOf& tensor_of) : marks_(into.marks().data) {
    for (std::size_t i = 0; i < N; ++i) {
      const index_t tensor = tensor_of(static_cast<index_t>(i));
      targets_[i] = into.target(tensor, written_[i]);
      tensors_[i] = static_cast<std::int32_t>(tensor);
    }
  }
  call_targets(const call_targets&) = delete;  // targets point here
  call_targets& operator=(const call_targets&) = delete;

  const std::array<gradient_target<C>, N>& targets() const { return targets_; }
  /// With operations over a whole batch, or of the group that the call was about.
  void settle(const auto& ops) const {
    set_marks<N> all{marks_, tensors_};
    bool any = false;
    for (std::size_t i = 0; i < N; ++i) {
      any = any || written_[i];
      if (!written_[i]) all.tensors[i] = -1;
    }
    if (any) ops.each_row(static_cast<index_t>(N), all);
  }

 private:
  std::uint8_t* marks_;
  std::array<gradient_target<C>, N> targets_ = {};
  std::array<std::int32_t, N> tensors_ = {};
  mutable std::array<bool, N> written_ = {};  // through targets, of a constant object too
};

}  // namespace detail
}  // namespace moue::inline v0_1
