// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The CUDA backend with a host in place of the device: Thrust on one of its host systems, kernels by the emulator, a fake
// of cuBLAS, and memory that is either the host's, where sanitizers watch it, or closed to all but what the backend runs.

#include "emulator.hpp"

#include <thrust/execution_policy.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "emulated_instructions.hpp"
#include "fake_blas.hpp"
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

/// A policy of Thrust with the memory open as long as it lives, which is as long as an algorithm runs.
template <class Memory>
struct host_policy : thrust::device_execution_policy<host_policy<Memory>> {
  explicit host_policy(const Memory& memory) : open(memory) {}
  typename memory_entry<Memory>::type open;
};

/// With no more shared memory for a block than the environment says, in KB: devices differ there.
inline moue::product_choice on_device_of_environment(moue::product_choice choice) {
  if (const char* const kilobytes = std::getenv("MOUE_TEST_SHARED_KB"))
    choice.shared_bytes = std::min(choice.shared_bytes, moue::index_t{std::atol(kilobytes)} << 10);
  return choice;
}

template <class Memory>
class emulated_runtime {
  using entry = typename memory_entry<Memory>::type;

 public:
  using choice_type = moue::product_choice;

  /// `seed` orders the threads, `choice` says which kernels compute products and how much shared memory a block has.
  explicit emulated_runtime(std::uint64_t seed = 1, const choice_type& choice = {})
      : state_(std::make_shared<state>()) {
    state_->seed = seed;
    state_->choice = on_device_of_environment(choice);
  }

  auto policy() const { return host_policy<Memory>(state_->memory); }

  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
              const Arguments&... arguments) const {
    const entry open(state_->memory);
    ++state_->launches;
    emulator::expect_shared(shared, state_->choice.shared_bytes);
    emulator::launch(state_->seed++, kernel, grid, block, shared, arguments...);
    emulator::expect_no_copies();
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
    void* const data = state_->memory.allocate(bytes);
    state_->blas.allow(data, bytes);
    const entry open(state_->memory);
    std::memset(data, 0xff, bytes);  // NaN in every format, so that what nobody wrote shows where it is read
    return data;
  }
  void release(void* data) const { state_->memory.release(data); }
  int multiprocessors() const { return 3; }
  auto blas() const { return opened_blas{state_->memory, state_->blas}; }
  choice_type choice() const { return state_->choice; }

  const fake_blas& blas_calls() const { return state_->blas; }
  std::size_t launches() const { return state_->launches; }
  std::size_t allocations() const { return state_->allocations; }

 private:
  struct opened_blas {
    const Memory& memory;
    const fake_blas& it;
    void gemm(const fake_blas::gemm_call& call) const {
      const entry open(memory);
      it.gemm(call);
    }
  };
  struct state {
    Memory memory;
    fake_blas blas;
    std::uint64_t seed = 1;
    choice_type choice = {};
    std::size_t launches = 0, allocations = 0;
  };
  std::shared_ptr<state> state_;
};

/// In closed memory.
using emulated = moue::basic_cuda<emulated_runtime<closed_memory>>;
/// In memory that sanitizers watch.
using emulated_open = moue::basic_cuda<emulated_runtime<open_memory>>;

}  // namespace test
