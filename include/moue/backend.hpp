// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Backend: where and how bulk work happens. A value; policies never see it, only the operations it hands them.

#include <concepts>
#include <cstdint>
#include <span>

#include "moue/dispatch.hpp"
#include "moue/grouped.hpp"
#include "moue/operations.hpp"
#include "moue/routing.hpp"

namespace moue::inline v0_1 {

class cpu;  // moue/backend/cpu.hpp; the default of `mixture`

/// Rows of a plan, of experts of one kind, that one call of an expert's member runs over.
struct plan_block {
  index_t first = 0;    ///< row of the plan
  index_t rows = 0;     ///< at most, where only the backend knows how many there are
  index_t scratch = 0;  ///< the first of the rows of scratch that are the block's own
};

/// What a backend wants memory for when it runs experts.
struct block_needs {
  index_t rows = 0;       ///< of scratch: those of all blocks that may run at once
  bool gathers = false;   ///< whether products copy rows of tokens before they multiply them
  index_t converted = 0;  ///< elements, per worker, of a weight in the compute type
  index_t dispatch = 0;   ///< elements of `dispatch_plan::scratch`
};

/// That memory, but for the plan's.
template <class C>
struct block_scratch {
  matrix_view<C> gathered;    ///< [block_needs::rows, n] room for gathered rows, two in training: side by side, padded
  matrix_view<C> conversion;  ///< [workers, block_needs::converted]
};

namespace detail {

/// Columns that a matrix of `width` takes where several lie side by side in a flat buffer: each begins where vectors of
/// any type may, and so alike for every row.
constexpr index_t padded(index_t width) { return (width + 31) / 32 * 32; }
/// Where rows of `cols` are gathered, as the factor of that `place`; no columns if there is no room.
template <class C>
matrix_view<C> room_for(const matrix_view<C>& gathered, index_t cols, index_t place) {
  const index_t first = place * padded(cols);
  return first + cols <= gathered.cols ? gathered.column_block(first, cols) : gathered.column_block(0, 0);
}

struct block_archetype {
  template <class O>
  void operator()(const O&, index_t, const plan_block&) const {}
};

/// Whether all that a pass works on lies in memory of the host.
template <class B>
inline constexpr bool on_host = true;
template <class B>
  requires requires { B::host_memory; }
inline constexpr bool on_host<B> = B::host_memory;

}  // namespace detail

/// What a pass needs of a backend with element type `C`.
///
///     index_t workers() const;                                  // calls of `body` that may run at once
///     auto operations(matrix_view<C> conversion) const;         // bulk operations over a whole batch
///     void dispatch(const routing<C>&, dispatch_plan&) const;   // fills a plan, see `make_plan`
///     block_needs needs<S>(index_t entries, index_t experts, index_t largest) const;
///     void each_block<S>(const dispatch_plan&, index_t entries, vector_view<const std::int32_t> kinds,
///                        index_t number_of_kinds, const block_scratch<C>&, body) const;
///     void upload(std::span<const T> from, T* to) const;        // from the host, in order with all other work
///     void download(const T* from, std::span<T> to) const;      // to the host; waits for it
///
/// `each_block` calls `body(ops, kind, plan_block)` until every row of the plan has been in one block, in any order and
/// possibly at once. The rows of a block are consecutive and belong to experts of one kind, which `kinds` [experts] tells;
/// the blocks that an expert with many rows is cut into come in order, one after another. Which blocks there are depends
/// on the plan alone, never on the number of threads, and so does every result. `ops` are the operations over a block:
/// they count rows from the block's first, take `grouped_matrix`es as weights and gradients, which they look up for every
/// expert of the block, and `token_rows` in place of the matrices that products read. A block has the rows of scratch
/// [scratch, scratch + rows) to itself. `backend/blocks.hpp` makes such operations from those of `operations`.
///
/// A device cannot afford a program per expert nor knows how many rows there are. It calls `body` once per kind, with as
/// many rows as there are `entries`; its `ops` leave alone rows of other kinds and those past the plan's last.
///
/// `needs` says how much memory runs of up to `entries` assignments take whose weights are stored as `S` and have at most
/// `largest` elements each; `conversion` [workers, converted] comes to `operations` as well.
///
/// A backend whose memory the host cannot read says `static constexpr bool host_memory = false`. Everything that a pass
/// is given then lies in the backend's memory: inputs, masks, weights, gradients with their marks, workspace. `kinds` and
/// the lists in `grouped_matrix` always do.
template <class B, class C = double>
concept Backend = std::copyable<B> &&
    requires(const B b, matrix_view<C> conversion, const routing<C>& r, dispatch_plan& plan,
             const block_scratch<C>& scratch, vector_view<const std::int32_t> kinds, std::span<const C> from,
             std::span<C> to, C* there, const C* here) {
  { b.workers() } -> std::convertible_to<index_t>;
  { b.operations(conversion) } -> Operations<C>;
  b.dispatch(r, plan);
  { b.template needs<C>(index_t{}, index_t{}, index_t{}) } -> std::same_as<block_needs>;
  b.template each_block<C>(plan, index_t{}, kinds, index_t{}, scratch, detail::block_archetype{});
  b.upload(from, there);
  b.download(here, to);
};

namespace detail {

/// False if the members are there in float, but not in double, which the concept tries.
template <class B>
concept backend_takes_double = Backend<B> || !Backend<B, float>;

}  // namespace detail

/// Says in one sentence what a backend needs.
template <class B>
consteval bool check_backend() {
  static_assert(
      detail::backend_takes_double<B>,
      "moue: the members of a backend are needed for every arithmetic type C; tried with double, one is there "
      "for float alone");
  static_assert(
      Backend<B>,
      "moue: a backend needs the members 'workers', 'operations', 'dispatch', 'needs', 'each_block', 'upload' "
      "and 'download'");
  return true;
}

namespace detail {

/// One number from the backend's memory.
template <class B, class T>
T download(const B& backend, const T* from) {
  T value{};
  backend.download(from, std::span<T>(&value, 1));
  return value;
}

}  // namespace detail

}  // namespace moue::inline v0_1
