// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Runtime: what the CUDA backend needs of a machine. On a device it is `cuda_runtime`; the tests put a host in its place.

#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/system_error.h>
#include <vector_types.h>

#include <concepts>
#include <cstddef>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// Work is queued in order and may run later than the calls that ask for it; `upload`, `download` and `synchronise` wait.
///
///     auto policy() const;                         // of Thrust: runs algorithms in that order, without waiting
///     void launch(kernel, dim3 grid, dim3 block, std::size_t shared, arguments...) const;  // nothing if grid is empty
///     void upload(const void* from_host, void* to, std::size_t bytes) const;    // what is copied may be reused at once
///     void download(const void* from, void* to_host, std::size_t bytes) const;
///     void copy(const void* from, void* to, std::size_t bytes) const;           // both on the device
///     void zero(void* to, std::size_t bytes) const;
///     void synchronise() const;
///     void* allocate(std::size_t bytes) const;     // aligned to 256 bytes
///     void release(void*) const;
///     int multiprocessors() const;
///     auto blas() const;     // optional: dense products, see blas_products.cuh
///     auto choice() const;   // optional: a product_choice
///     std::span<std::byte> scratch() const;   // optional: memory on the device that no other queued work uses
///
/// Copies share what they hold.
template <class R>
concept Runtime = std::copyable<R> &&
    requires(const R r, void (*kernel)(), dim3 size, void* to, const void* from, std::size_t n) {
  r.policy();
  r.launch(kernel, size, size, n);
  r.upload(from, to, n);
  r.download(from, to, n);
  r.copy(from, to, n);
  r.zero(to, n);
  r.synchronise();
  { r.allocate(n) } -> std::same_as<void*>;
  r.release(to);
  { r.multiprocessors() } -> std::convertible_to<int>;
};

/// Says in one sentence what a runtime needs.
template <class R>
consteval bool check_runtime() {
  static_assert(Runtime<R>,
                "moue: a runtime needs the members 'policy', 'launch', 'upload', 'download', 'copy', 'zero', "
                "'synchronise', 'allocate', 'release' and 'multiprocessors'");
  return true;
}

namespace detail::gpu {

/// f(i) for every i in [0, count), neighbours in neighbouring threads.
template <class RuntimeT, class F>
void for_each(const RuntimeT& runtime, index_t count, const F& f) {
  if (count <= 0) return;
  try {
    thrust::for_each_n(runtime.policy(), thrust::counting_iterator<index_t>(0), count, f);
  } catch (const thrust::system_error& failure) {
    throw error("cuda", failure.what(), "compile for this device's architecture, or look for an earlier failure",
                error_kind::system);
  }
}

}  // namespace detail::gpu
}  // namespace moue::inline v0_1
