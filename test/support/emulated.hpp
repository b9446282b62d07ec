// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The CUDA backend with a host in place of the device: Thrust on one of its host systems, kernels by the emulator, and
// memory that is either the host's, where sanitizers watch it, or closed to all but what the backend runs.

#include "emulator.hpp"

#include <thrust/system/cpp/execution_policy.h>
#if defined(_OPENMP)
#include <thrust/system/omp/execution_policy.h>
#endif

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "island.hpp"
#include "moue/backend/cuda.cuh"

namespace test {

/// Memory that anybody may touch.
struct open_memory {
  struct entry {
    explicit entry(const open_memory&) {}
  };
  void* allocate(std::size_t bytes) const { return ::operator new (bytes, std::align_val_t{256}); }
  void release(void* data) const { ::operator delete (data, std::align_val_t{256}); }
};

template <class Memory>
struct memory_entry {
  using type = typename Memory::entry;
};
template <>
struct memory_entry<closed_memory> {
  using type = test::entry;
};

/// Thrust's policies with the memory open as long as they live, which is as long as an algorithm runs.
template <class Memory>
struct cpp_policy : thrust::cpp::execution_policy<cpp_policy<Memory>> {
  explicit cpp_policy(const Memory& memory) : open(memory) {}
  typename memory_entry<Memory>::type open;
};
#if defined(_OPENMP)
template <class Memory>
struct omp_policy : thrust::omp::execution_policy<omp_policy<Memory>> {
  explicit omp_policy(const Memory& memory) : open(memory) {}
  typename memory_entry<Memory>::type open;
};
#endif

template <class Memory, template <class> class Policy>
class emulated_runtime {
  using entry = typename memory_entry<Memory>::type;

 public:
  explicit emulated_runtime(std::uint64_t seed = 1) : state_(std::make_shared<state>()) { state_->seed = seed; }

  auto policy() const { return Policy<Memory>(state_->memory); }

  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
              const Arguments&... arguments) const {
    const entry open(state_->memory);
    ++state_->launches;
    emulator::launch(state_->seed++, kernel, grid, block, shared, arguments...);
  }

  void upload(const void* from, void* to, std::size_t bytes) const { copy(from, to, bytes); }
  void download(const void* from, void* to, std::size_t bytes) const { copy(from, to, bytes); }
  void copy(const void* from, void* to, std::size_t bytes) const {
    const entry open(state_->memory);
    std::memcpy(to, from, bytes);
  }
  void zero(void* to, std::size_t bytes) const {
    const entry open(state_->memory);
    std::memset(to, 0, bytes);
  }
  void synchronise() const {}
  void* allocate(std::size_t bytes) const {
    ++state_->allocations;
    return state_->memory.allocate(bytes);
  }
  void release(void* data) const { state_->memory.release(data); }
  int multiprocessors() const { return 3; }

  std::size_t launches() const { return state_->launches; }
  std::size_t allocations() const { return state_->allocations; }

 private:
  struct state {
    Memory memory;
    std::uint64_t seed = 1;
    std::size_t launches = 0, allocations = 0;
  };
  std::shared_ptr<state> state_;
};

/// On one thread, in closed memory.
using emulated = moue::basic_cuda<emulated_runtime<closed_memory, cpp_policy>>;
/// On one thread, in memory that sanitizers watch.
using emulated_open = moue::basic_cuda<emulated_runtime<open_memory, cpp_policy>>;
#if defined(_OPENMP)
/// On all threads, in closed memory.
using emulated_threads = moue::basic_cuda<emulated_runtime<closed_memory, omp_policy>>;
#endif

}  // namespace test
