// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Backend: where and how bulk work happens. A value; policies never see it, only the operations it hands them.

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>

#include "moue/dispatch.hpp"
#include "moue/grouped.hpp"
#include "moue/operations.hpp"
#include "moue/routing.hpp"

namespace moue {

class cpu;  // moue/backend/cpu.hpp; the default of `mixture`

namespace detail {

struct group_archetype {
  template <class O>
  void operator()(const O&, index_t, index_t, index_t) const {}
};

template <class B>
inline constexpr bool is_grouped = requires {
  requires B::grouped;
};

template <class B, class C>
concept has_each_group = requires(const B b, matrix_view<C> conversion, const dispatch_plan& plan) {
  b.each_group(plan, conversion, group_archetype{});
};
template <class B, class C>
concept has_group = requires(const B b, const dispatch_plan& plan, vector_view<const std::int32_t> kinds,
                             std::span<const C> from, std::span<C> to, C* there, const C* here) {
  { b.template group<C>(plan, kinds, index_t{}) } -> Operations<C>;
  b.upload(from, there);
  b.download(here, to);
};

}  // namespace detail

/// What a pass needs of a backend with element type `C`.
///
///     index_t workers() const;                                       // pieces of scratch that `operations` may use at once
///     auto operations(matrix_view<C> conversion) const;            // bulk operations over a whole batch
///     void dispatch(const routing<C>&, dispatch_plan&) const;      // fills a plan, see `make_plan`
///     void each_group(const dispatch_plan&, matrix_view<C> conversion, body) const;
///
/// A backend with memory of its own, such as a device's, says `static constexpr bool grouped = true` and has in place of
/// `each_group` one program per kind of experts, and the way to its memory:
///
///     auto group<C>(const dispatch_plan&, vector_view<const std::int32_t> kinds, index_t kind) const;
///     void upload(std::span<const T> from, T* to) const;    // from the host, in order with all other work
///     void download(const T* from, std::span<T> to) const;  // to the host; waits for it
///
/// Its `dispatch` also fills `row_expert`, and may use the plan's `scratch`, for which it says how much it wants:
///
///     index_t dispatch_scratch(index_t entries, index_t experts) const;   // optional: elements of dispatch_plan::scratch
///
/// `group` offers the operations over all rows of the experts whose entry in `kinds` [experts] is `kind`; rows of others,
/// and those past the plan's last, are left alone. A backend that wants to know what the weights are stored as takes it
/// as a second template argument, `group<C, S>`. Weights and their gradients are `grouped_matrix`es. Everything that a
/// pass is given then lies in the backend's memory: inputs, masks, weights, gradients with their marks, workspace.
///
/// `each_group` calls `body(ops, expert, first_row, rows)` for every expert that has rows, in any order and possibly at
/// once. `conversion` [workers, elements of the largest weight] is scratch for weights in a narrower storage type, and
/// has no columns if there are none. Results must not depend on how work is spread over threads.
template <class B, class C = double>
concept Backend = std::copyable<B> &&
    requires(const B b, matrix_view<C> conversion, const routing<C>& r, dispatch_plan& plan) {
  { b.workers() } -> std::convertible_to<index_t>;
  { b.operations(conversion) } -> Operations<C>;
  b.dispatch(r, plan);
} &&(detail::is_grouped<B> ? detail::has_group<B, C> : detail::has_each_group<B, C>);

template <class B>
consteval bool check_backend() {
  static_assert(!detail::is_grouped<B> || Backend<B>,
                "moue: a grouped backend needs the members 'workers', 'operations', 'dispatch', 'group', 'upload' and "
                "'download'");
  static_assert(detail::is_grouped<B> || Backend<B>,
                "moue: a backend needs the members 'workers', 'operations', 'dispatch' and 'each_group'");
  return true;
}

namespace detail {

/// Copies to the backend's memory, which is the host's unless it says otherwise.
template <class B, class T>
void upload(const B& backend, std::span<const T> from, T* to) {
  if constexpr (is_grouped<B>)
    backend.upload(from, to);
  else
    std::copy(from.begin(), from.end(), to);
}
template <class B, class T>
void download(const B& backend, const T* from, std::span<T> to) {
  if constexpr (is_grouped<B>)
    backend.download(from, to);
  else
    std::copy(from, from + to.size(), to.begin());
}
template <class B, class T>
T download(const B& backend, const T* from) {
  T value{};
  download(backend, from, std::span<T>(&value, 1));
  return value;
}

}  // namespace detail

}  // namespace moue
