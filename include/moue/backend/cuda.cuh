// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The CUDA backend: experts of a kind run together, on rows that never leave the device.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "moue/backend.hpp"
#include "moue/backend/cuda/dispatch.cuh"
#include "moue/backend/cuda/memory.cuh"
#include "moue/backend/cuda/operations.cuh"
#include "moue/backend/cuda/runtime.cuh"
#if defined(__CUDACC__)
#include "moue/backend/cuda/cuda_runtime.cuh"
#endif

namespace moue::inline v0_1 {

/// A value whose copies share the runtime. Whatever a pass is given lies in the device's memory, but for the views and
/// lists of pointers themselves. Nothing waits and nothing is allocated while a pass runs, `balance`, `statistics` and
/// `valid_tokens` aside, which read a number back; use `queue_balance` where a graph is captured. Making a pass sends
/// tables, and so do the first `forward` and `backward` with other weights or gradients than before, which then wait: run
/// it once with as many tokens before a capture, which refuses them. A `product_choice` that hands the products of experts
/// to cuBLAS waits at every layer. Sums run in an order that depends on shapes, the choice and the device's number of
/// multiprocessors alone, so equal runs on one device give equal bits.
///
/// Nobody can throw on what lies there: ids out of range are left out, see `refused_entries`; a token whose selection breaks
/// its rules goes nowhere; the offsets of a caller's routing have to ascend. What the host knows, such as shapes, is checked.
template <class RuntimeT>
class basic_cuda {
  static_assert(check_runtime<RuntimeT>());

 public:
  using runtime_type = RuntimeT;  ///< how it reaches the device
  static constexpr bool host_memory = false;

  basic_cuda() = default;
  /// On what `runtime` holds: a stream, and a cuBLAS handle if it has one.
  explicit basic_cuda(RuntimeT runtime) : runtime_(std::move(runtime)) {}
  /// What a runtime can be made of, such as a stream.
  template <class... Arguments>
    requires(sizeof...(Arguments) > 0 && std::constructible_from<RuntimeT, Arguments...>)
  explicit basic_cuda(Arguments... arguments) : runtime_(arguments...) {}

  /// The runtime.
  const RuntimeT& runtime() const { return runtime_; }

  index_t workers() const { return 1; }
  template <class C>
  detail::gpu::operations<RuntimeT> operations(matrix_view<C>) const {
    return detail::gpu::operations<RuntimeT>(runtime_);
  }
  template <class C>
  void dispatch(const routing<C>& r, dispatch_plan& plan) const {
    detail::gpu::dispatch(runtime_, r, plan);
  }
  template <class S>
  static block_needs needs(index_t entries, index_t experts, index_t) {
    return {.rows = entries, .gathers = true, .dispatch = detail::gpu::dispatch_scratch(entries, experts)};
  }
  /// A block per kind of experts, with all rows.
  template <class S, class C, class Body>
  void each_block(const dispatch_plan& plan, index_t entries, vector_view<const std::int32_t> kinds,
                  index_t number_of_kinds, const block_scratch<C>& scratch, const Body& body) const {
    for (index_t kind = 0; kind < number_of_kinds; ++kind)
      body(detail::gpu::group_operations<RuntimeT, S, C>(runtime_, plan, kinds, static_cast<std::int32_t>(kind),
                                                         entries, scratch.gathered),
           kind, plan_block{0, entries, 0});
  }
  /// Entries of a dispatched routing whose id is neither an expert's nor −1. Waits.
  index_t refused_entries(const dispatch_plan& plan) const {
    std::int32_t count = 0;
    download(static_cast<const std::int32_t*>(plan.scratch.data), std::span(&count, 1));
    return count;
  }

  template <class T>
  void upload(std::span<const T> from, T* to) const {
    if (!from.empty()) runtime_.upload(from.data(), to, from.size_bytes());
  }
  template <class T>
  void download(const T* from, std::span<T> to) const {
    if (!to.empty()) runtime_.download(from, to.data(), to.size_bytes());
  }

  /// Memory on the device that frees itself: `size` elements, uninitialised;
  template <class T>
  device_array<T, RuntimeT> make_array(index_t size) const {
    return {runtime_, size};
  }
  /// scratch for a pass;
  device_workspace<RuntimeT> make_workspace(std::size_t bytes) const { return {runtime_, bytes}; }
  /// weights, all zero, or a copy of the host's;
  template <Storage S>
  device_parameters<S, RuntimeT> make_parameters(std::shared_ptr<const parameter_layout> layout) const {
    return {runtime_, std::move(layout)};
  }
  template <Storage S>
  device_parameters<S, RuntimeT> make_parameters(const parameters<S>& host) const {
    return {runtime_, host};
  }
  /// and gradients, zeros of which nothing is live; `wanted` as `gradients` take it.
  template <class C, class Wanted = every_trained>
  device_gradients<C, RuntimeT> make_gradients(std::shared_ptr<const parameter_layout> layout,
                                               const Wanted& wanted = {}) const {
    return {runtime_, std::move(layout), wanted};
  }

  /// Memory on the device, aligned to 256 bytes; uninitialised.
  void* allocate(std::size_t bytes) const { return runtime_.allocate(bytes); }
  /// Frees what `allocate` gave. Waits for the device.
  void release(void* memory) const { runtime_.release(memory); }
  /// Waits for all work queued before.
  void synchronise() const { runtime_.synchronise(); }

 private:
  RuntimeT runtime_;
};

#if defined(__CUDACC__)
/// On a device: `cuda{}` with a stream and a cuBLAS handle of its own, `cuda{stream}` or `cuda{stream, handle}` with the
/// caller's.
using cuda = basic_cuda<cuda_runtime>;
#endif

}  // namespace moue::inline v0_1
