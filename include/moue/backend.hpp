// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Backend: where and how bulk work happens. A value; policies never see it, only the operations it hands them.

#include <concepts>

#include "moue/dispatch.hpp"
#include "moue/operations.hpp"
#include "moue/routing.hpp"

namespace moue {

class cpu;  // moue/backend/cpu.hpp; the default of `mixture`

namespace detail {

struct group_archetype {
  template <class O>
  void operator()(const O&, index, index, index) const {}
};

}  // namespace detail

/// What a pass needs of a backend with element type `C`.
///
///     index workers() const;                                       // scratch slots that `operations` may use at once
///     auto operations(matrix_view<C> conversion) const;            // bulk operations over a whole batch
///     void dispatch(const routing<C>&, dispatch_plan&) const;      // fills a plan, see `make_plan`
///     void each_group(const dispatch_plan&, matrix_view<C> conversion, body) const;
///
/// `each_group` calls `body(ops, expert, first_row, rows)` for every expert that has rows, in any order and possibly at
/// once. `conversion` [workers, elements of the largest weight] is scratch for weights in a narrower storage type, and
/// has no columns if there are none. Results must not depend on how work is spread over threads.
template <class B, class C = double>
concept Backend = std::copyable<B> &&
    requires(const B b, matrix_view<C> conversion, const routing<C>& r, dispatch_plan& plan) {
  { b.workers() } -> std::convertible_to<index>;
  { b.operations(conversion) } -> Operations<C>;
  b.dispatch(r, plan);
  b.each_group(plan, conversion, detail::group_archetype{});
};

template <class B>
consteval bool check_backend() {
  static_assert(Backend<B>, "moue: a backend needs the members 'workers', 'operations', 'dispatch' and 'each_group'");
  return true;
}

}  // namespace moue
