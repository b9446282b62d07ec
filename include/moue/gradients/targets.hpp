// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Where a policy writes the gradients of its parameters: tensors that may hold nothing yet, or that nobody wants.

#include <cstdint>

#include "moue/grouped.hpp"
#include "moue/lanes.hpp"
#include "moue/store.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// What a target says to everybody who takes it for a matrix.
template <class... T>
constexpr void refuse_direct_access() {
  static_assert(never<T...>,
                "moue: the gradient of a parameter is written by 'ops.weight_gradient' and 'ops.column_sum', or by "
                "functors through the matrix that 'moue::accumulate(ops, dp[i])' gives");
}

}  // namespace detail

/// The gradient of one parameter `[rows, cols]`, as a policy's `backward` gets it in `dp`. The first product that writes
/// the tensor since `gradients::reset` assigns, later ones add: `ops.weight_gradient(dy, x, dp[i])` and
/// `ops.column_sum(x, dp[i])` see to that, and cost nothing if the target is `empty()`. Functors add to the matrix that
/// `accumulate` gives. Valid during the call it was made for.
template <class C>
class gradient_target {
 public:
  using value_type = C;

  /// Nobody wants this gradient.
  gradient_target() = default;
  /// `mark` lies where `values` do and says whether they held numbers before the call; the host's `written` says whether
  /// the call has written them since.
  gradient_target(matrix_view<C> values, const std::uint8_t* mark, bool* written)
      : values_(values), mark_(mark), written_(written) {}

  /// Whether nothing is to be written, since nobody wants the gradient or since it has no elements.
  bool empty() const { return values_.data == nullptr || values_.empty(); }

  // --- for backends -------------------------------------------------------------------------------------------------

  /// Unspecified numbers before the first write.
  const matrix_view<C>& values() const { return values_; }
  /// Where the mark lies, in the memory of the values.
  const std::uint8_t* mark() const { return mark_; }
  /// Whether the call has written the tensor.
  bool written() const { return *written_; }
  /// Called once an operation that writes the tensor has been queued.
  void set_written() const { *written_ = true; }
  /// Reads the mark: for backends that work on the host's memory.
  store mode() const { return *written_ || *mark_ != 0 ? store::add : store::assign; }

  // --- what a matrix could do and this cannot -----------------------------------------------------------------------

  /// Does not compile: a functor adds to what `accumulate` gives.
  template <class... Index>
  C& operator()(Index...) const {
    detail::refuse_direct_access<Index...>();
    return *values_.data;
  }
  /// Does not compile, as above.
  template <class T>
  operator matrix_view<T>() const {
    detail::refuse_direct_access<T>();
    return {};
  }

 private:
  matrix_view<C> values_ = {};
  const std::uint8_t* mark_ = nullptr;
  bool* written_ = nullptr;
};

/// The same for all experts of a kind at once. Each expert has a mark of its own, and some may have no memory.
template <class C>
class grouped_target {
 public:
  using value_type = C;

  grouped_target() = default;
  /// `mark_of_expert` [experts] is found where `values.of_expert` is.
  grouped_target(grouped_matrix<C> values, void* const* mark_of_expert, bool* written)
      : values_(values), mark_of_expert_(mark_of_expert), written_(written) {}

  /// Whether nothing is to be written, whatever the expert.
  bool empty() const { return values_.of_expert == nullptr || values_.empty(); }

  // --- for backends -------------------------------------------------------------------------------------------------

  /// The gradients of all experts of the kind; an expert may have none.
  const grouped_matrix<C>& values() const { return values_; }
  /// [experts] addresses of their marks.
  void* const* mark_of_expert() const { return mark_of_expert_; }
  /// Whether the call has written the tensors.
  bool written() const { return *written_; }
  /// Called once an operation that writes them has been queued.
  void set_written() const { *written_ = true; }
  /// The matrix of one expert, empty if nobody wants it, and whether the next product assigns it; read on the host. An
  /// operation looks at all of its experts before it calls `set_written`.
  matrix_view<C> of(index_t expert) const { return values_.of(expert); }
  /// Whether expert `expert` is assigned or added to; read on the host.
  store mode(index_t expert) const {
    return *written_ || *static_cast<const std::uint8_t*>(mark_of_expert_[expert]) != 0 ? store::add : store::assign;
  }

  // --- what a matrix could do and this cannot -----------------------------------------------------------------------

  /// Does not compile: a functor adds to what `accumulate` gives.
  template <class... Index>
  C& operator()(Index...) const {
    detail::refuse_direct_access<Index...>();
    return *values_.of(0).data;
  }
  /// Does not compile, as above.
  template <class Index>
  matrix_view<C> for_row(Index) const {
    detail::refuse_direct_access<Index>();
    return {};
  }
  /// Does not compile, as above.
  template <class T>
  operator grouped_matrix<T>() const {
    detail::refuse_direct_access<T>();
    return {};
  }

 private:
  grouped_matrix<C> values_ = {};
  void* const* mark_of_expert_ = nullptr;
  bool* written_ = nullptr;
};

namespace detail {

/// Zeros in a matrix that held nothing.
template <class C>
struct clear_unmarked {
  matrix_view<C> values;
  const std::uint8_t* mark;
  MOUE_HD void operator()(index_t i, index_t j) const {
    if (*mark == 0) values(i, j) = C(0);
  }
};

/// The same for every expert with rows; the first row of an expert does it.
template <class C>
struct clear_unmarked_experts {
  grouped_matrix<C> values;
  void* const* mark_of_expert;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t i, const Lanes& lanes = {}) const {
    const index_t expert = values.row_expert[i];
    if (i > 0 && values.row_expert[i - 1] == expert) return;
    const matrix_view<C> own = values.of(expert);
    if (own.empty() || *static_cast<const std::uint8_t*>(mark_of_expert[expert]) != 0) return;
    for (index_t at = lanes.first(); at < own.rows * own.cols; at += lanes.step()) own.data[at] = C(0);
  }
};

/// Calls `write(matrix, mode)` unless nobody wants the gradient. For backends that work on the host's memory.
template <class C, class F>
void write_target(const gradient_target<C>& target, const F& write) {
  if (target.empty()) return;
  write(target.values(), target.mode());
  target.set_written();
}

}  // namespace detail

/// The gradient as a matrix that functors may add to: cleared if it held nothing, empty if nobody wants it. So
/// `ops.each_element(d.rows, d.cols, f)` costs nothing where it is not wanted.
template <class C>
matrix_view<C> accumulate(const auto& ops, const gradient_target<C>& target) {
  if (target.empty()) return {};
  const auto& values = target.values();
  if (!target.written()) ops.each_element(values.rows, values.cols, detail::clear_unmarked<C>{values, target.mark()});
  target.set_written();
  return values;
}
/// The same for all experts of a kind: `d.for_row(i)` is empty where nobody wants the gradient of row i's expert.
template <class C>
grouped_matrix<C> accumulate(const auto& ops, const grouped_target<C>& target) {
  if (target.empty()) return {};
  const auto& values = target.values();
  if (!target.written())
    ops.each_row(values.row_expert.size, detail::clear_unmarked_experts<C>{values, target.mark_of_expert()});
  target.set_written();
  return values;
}
/// Matrices that always hold numbers stay what they are.
template <class C>
matrix_view<C> accumulate(const auto&, const matrix_view<C>& values) {
  return values;
}

}  // namespace moue::inline v0_1
