// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The threads of a block as fibers, and what they wait for; see emulator.hpp.

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fiber.hpp"
#include "moue/view.hpp"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#define __global__
#define __device__
#define __host__
#define __shared__ thread_local  // one block at a time runs on a host thread
#define __constant__
#define __launch_bounds__(...)
#define __forceinline__ inline

inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace moue::inline v0_1::detail::gpu {
inline constexpr std::size_t most_dynamic_shared = 227 * 1024;  // of a block on compute capability 9.0
alignas(128) inline thread_local unsigned char dynamic_shared[most_dynamic_shared];
}  // namespace moue::inline v0_1::detail::gpu

namespace test::emulator {

/// Behaviour that a device leaves undefined.
struct divergence : std::logic_error {
  using std::logic_error::logic_error;
};

enum class call_kind { block_barrier, warp_barrier, shuffle, ballot, match };

/// What a suspended thread waits for.
struct call {
  call_kind kind;
  unsigned mask;        // lanes that take part; of warp calls
  std::uint64_t value;  // what the lane offers
  unsigned source;      // the lane whose value it wants
  const char* file;
  unsigned line;

  bool same_place(const call& other) const {
    return kind == other.kind && mask == other.mask && line == other.line &&
           (file == other.file || std::strcmp(file, other.file) == 0);
  }
};

class machine {
 public:
  template <class F>
  void run(dim3 grid, dim3 block, std::size_t shared, std::uint64_t seed, const F& body) {
    using moue::detail::gpu::dynamic_shared;
    using moue::detail::gpu::most_dynamic_shared;
    const std::size_t threads = std::size_t{block.x} * block.y * block.z;
    if (threads == 0 || threads > 1024) throw divergence("a block has " + std::to_string(threads) + " threads");
    if (shared > most_dynamic_shared) throw divergence("a block asks for too much shared memory");
    if (grid.x > 0x7fffffffu || grid.y > 0xffffu || grid.z > 0xffffu) throw divergence("a grid is too large");
    if (running_) throw divergence("a kernel launches a kernel");
    random_ = seed * 2 + 1;
    body_ = [](const void* context) { (*static_cast<const F*>(context))(); };
    context_ = &body;
    gridDim = grid;
    blockDim = block;
    while (fibers_.size() < threads) fibers_.push_back(std::make_unique<fiber>(&machine::main_of_fiber));
    threads_.assign(threads, {});
    mark_unused_shared(shared, true);
    running_ = true;
    try {
      for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
          for (unsigned x = 0; x < grid.x; ++x) {
            blockIdx = {x, y, z};
            std::memset(dynamic_shared, 0xa5, shared);
            run_block();
          }
    } catch (...) {
      running_ = false;
      fibers_.clear();  // some are suspended for good
      mark_unused_shared(shared, false);
      throw;
    }
    running_ = false;
    mark_unused_shared(shared, false);
  }

  /// Suspends the current thread until its call is answered.
  std::uint64_t wait(const call& c) {
    auto& self = threads_[current_];
    self.what = state::waiting;
    self.asked = c;
    fibers_[current_]->leave();
    return threads_[current_].answer;
  }
  /// Lets others run now and then.
  void maybe_pause() {
    if (!running_ || next_random() % 4 != 0) return;
    ready_.push_back(current_);
    fibers_[current_]->leave();
  }
  unsigned lane() const { return static_cast<unsigned>(current_ % 32); }
  unsigned lanes() const {
    const std::size_t left = threads_.size() - current_ / 32 * 32;
    return left >= 32 ? ~0u : (1u << left) - 1;
  }

 private:
  enum class state { ready, waiting, ended };
  struct thread {
    state what = state::ready;
    call asked = {};
    std::uint64_t answer = 0;
  };

  void run_block() {
    suspended_.assign((threads_.size() + 31) / 32, 0);
    ready_.clear();
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      threads_[i].what = state::ready;
      ready_.push_back(i);
    }
    std::size_t ended = 0, at_barrier = 0;
    while (!ready_.empty()) {
      std::swap(ready_[next_random() % ready_.size()], ready_.back());
      current_ = ready_.back();
      ready_.pop_back();
      const auto linear = static_cast<unsigned>(current_);
      threadIdx = {linear % blockDim.x, linear / blockDim.x % blockDim.y, linear / (blockDim.x * blockDim.y)};
      fibers_[current_]->enter();
      if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
      const auto& self = threads_[current_];
      if (self.what == state::ended) ++ended;
      if (self.what != state::waiting) continue;
      if (self.asked.kind != call_kind::block_barrier) {
        answer_warp();
      } else if (++at_barrier == threads_.size()) {
        for (const auto& other : threads_)
          if (!other.asked.same_place(self.asked)) throw divergence("threads meet at different barriers: " + waits());
        for (std::size_t i = 0; i < threads_.size(); ++i) release(i);
        at_barrier = 0;
      }
    }
    if (ended < threads_.size())
      throw divergence(std::to_string(ended) + " of " + std::to_string(threads_.size()) +
                       " threads have ended, the others wait for ever: " + waits());
  }

  void release(std::size_t i) {
    threads_[i].what = state::ready;
    ready_.push_back(i);
  }

  /// Answers the calls of the current thread's warp if all lanes that take part have arrived.
  void answer_warp() {
    const call& asked = threads_[current_].asked;
    const unsigned mask = asked.mask & lanes();
    unsigned& suspended = suspended_[current_ / 32];
    if ((mask >> lane() & 1u) == 0) throw divergence("a lane calls with a mask that leaves it out: " + waits());
    suspended |= 1u << lane();
    if ((mask & ~suspended) != 0) return;
    thread* const warp = &threads_[current_ / 32 * 32];
    unsigned votes = 0;
    for (unsigned i = 0; i < 32; ++i) {
      if ((mask >> i & 1u) == 0) continue;
      if (!warp[i].asked.same_place(asked)) return;
      if (warp[i].asked.value != 0) votes |= 1u << i;
    }
    for (unsigned i = 0; i < 32; ++i)
      if ((mask >> i & 1u) != 0) warp[i].answer = answer(warp, i, mask, votes);
    for (unsigned i = 0; i < 32; ++i)
      if ((mask >> i & 1u) != 0) release(current_ / 32 * 32 + i);
    suspended &= ~mask;
  }

  static std::uint64_t answer(const thread* warp, unsigned lane, unsigned mask, unsigned votes) {
    const call& asked = warp[lane].asked;
    if (asked.kind == call_kind::ballot) return votes;
    if (asked.kind == call_kind::shuffle) {
      if ((mask >> asked.source & 1u) == 0)
        throw divergence("a shuffle reads lane " + std::to_string(asked.source) + ", which takes no part");
      return warp[asked.source].asked.value;
    }
    unsigned equal = 0;
    if (asked.kind == call_kind::match)
      for (unsigned i = 0; i < 32; ++i)
        if ((mask >> i & 1u) != 0 && warp[i].asked.value == asked.value) equal |= 1u << i;
    return equal;
  }

  /// Who waits where.
  std::string waits() const {
    std::map<std::string, std::size_t> places;
    for (const auto& t : threads_)
      if (t.what == state::waiting) {
        const std::string file = t.asked.file;
        ++places[file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(t.asked.line)];
      }
    std::string result;
    for (const auto& [place, count] : places) result += std::to_string(count) + " at " + place + ", ";
    return result + "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
           std::to_string(blockIdx.z) + ")";
  }

  std::uint64_t next_random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_ >> 11;
  }

  static void main_of_fiber();
  void run_body() {
    try {
      body_(context_);
    } catch (...) {
      failure_ = std::current_exception();
    }
    threads_[current_].what = state::ended;
  }

  static void mark_unused_shared([[maybe_unused]] std::size_t used, [[maybe_unused]] bool closed) {
#if defined(MOUE_TEST_ASAN)
    auto* const end = moue::detail::gpu::dynamic_shared + used;
    const std::size_t bytes = moue::detail::gpu::most_dynamic_shared - used;
    closed ? __asan_poison_memory_region(end, bytes) : __asan_unpoison_memory_region(end, bytes);
#endif
  }

  std::vector<std::unique_ptr<fiber>> fibers_;
  std::vector<thread> threads_;
  std::vector<std::size_t> ready_;
  std::vector<unsigned> suspended_;  // lanes of each warp that wait for others of it
  std::size_t current_ = 0;
  std::uint64_t random_ = 1;
  void (*body_)(const void*) = nullptr;
  const void* context_ = nullptr;
  std::exception_ptr failure_;
  bool running_ = false;
};

inline machine& current_machine() {
  static thread_local machine one;
  return one;
}

inline void machine::main_of_fiber() {
  machine& self = current_machine();
  self.fibers_[self.current_]->arrived();
  for (;;) {
    self.run_body();
    self.fibers_[self.current_]->leave();
  }
}

/// What a device does with a block that asks for more dynamic shared memory than it has.
inline void expect_shared(std::size_t shared, moue::index_t limit) {
  if (shared > static_cast<std::size_t>(limit))
    throw divergence("a block asks for " + std::to_string(shared) + " bytes of shared memory, where it can have " +
                     std::to_string(limit));
}

/// What `kernel<<<grid, block, shared>>>(arguments...)` does, with the threads in an order that `seed` says.
template <class... Parameters, class... Arguments>
void launch(std::uint64_t seed, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            const Arguments&... arguments) {
  current_machine().run(grid, block, shared, seed, [&] { kernel(static_cast<Parameters>(arguments)...); });
}

}  // namespace test::emulator
