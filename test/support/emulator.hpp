// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Runs the unmodified source of CUDA kernels on the host. Every thread of a block is a fiber; a barrier, a shuffle or a
// vote suspends it until the threads it waits for have arrived, and the next fiber is drawn at random, so that a missing
// barrier shows in the results of some seed. Blocks run one after another. What a device leaves undefined ends the
// launch with `divergence`: threads of a block at different barriers, or ended before one that others wait at; a lane
// that ended or stands elsewhere although a mask names it; a shuffle from a lane that the mask leaves out.
//
// Not modelled: memory order between threads that share no barrier, lock-step execution, floats in atomics, textures,
// asynchronous copies, tensor instructions. Dynamic shared memory is `extern __shared__ unsigned char dynamic_shared[]`
// within namespace moue::detail::gpu; each block finds rubbish in it.
//
// A fiber starts by makecontext and switches by setjmp, without a system call. AddressSanitizer is told of every switch;
// what is lost is its watch over the frames of a fiber that has been suspended, since longjmp clears their marks.

#undef _FORTIFY_SOURCE  // its longjmp refuses to change stacks

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector_types.h>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define MOUE_TEST_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOUE_TEST_ASAN
#endif
#endif
#if defined(MOUE_TEST_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

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

namespace moue::detail::gpu {
inline constexpr std::size_t most_dynamic_shared = 227 * 1024;  // of a block on compute capability 9.0
alignas(128) inline thread_local unsigned char dynamic_shared[most_dynamic_shared];
}  // namespace moue::detail::gpu

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
    return kind == other.kind && mask == other.mask && line == other.line && std::strcmp(file, other.file) == 0;
  }
};

/// A stack of its own with a guard below it, running `run(context)` again and again.
class fiber {
 public:
  fiber() {
    const std::size_t bytes = stack_bytes + guard_bytes;
    memory_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    ::mprotect(memory_, guard_bytes, PROT_NONE);
  }
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;
  ~fiber() {
#if defined(MOUE_TEST_ASAN)
    __asan_unpoison_memory_region(stack(), stack_bytes);
#endif
    ::munmap(memory_, stack_bytes + guard_bytes);
  }

  static constexpr std::size_t stack_bytes = 256 << 10, guard_bytes = 4 << 10;
  std::byte* stack() const { return static_cast<std::byte*>(memory_) + guard_bytes; }

  jmp_buf place = {};
  void* fake_stack = nullptr;
  bool started = false;

 private:
  void* memory_;
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
    if (running_) throw divergence("a kernel launches a kernel");
    random_ = seed * 2 + 1;
    body_ = [](const void* context) { (*static_cast<const F*>(context))(); };
    context_ = &body;
    gridDim = grid;
    blockDim = block;
    while (fibers_.size() < threads) fibers_.push_back(std::make_unique<fiber>());
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
    leave(*fibers_[current_]);
    return threads_[current_].answer;
  }
  /// Lets others run now and then.
  void maybe_pause() {
    if (!running_ || next_random() % 4 != 0) return;
    ready_.push_back(current_);
    leave(*fibers_[current_]);
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
      enter(*fibers_[current_]);
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
    const std::size_t first = current_ / 32 * 32;
    const unsigned mask = asked.mask & lanes();
    if ((mask >> lane() & 1u) == 0) throw divergence("a lane calls with a mask that leaves it out: " + waits());
    unsigned equal[32] = {}, votes = 0;
    for (unsigned i = 0; i < 32; ++i) {
      if ((mask >> i & 1u) == 0) continue;
      const auto& other = threads_[first + i];
      if (other.what != state::waiting || !other.asked.same_place(asked)) return;
      if (other.asked.value != 0) votes |= 1u << i;
      for (unsigned j = 0; j < 32; ++j)
        if ((mask >> j & 1u) != 0 && threads_[first + j].asked.value == other.asked.value) equal[i] |= 1u << j;
    }
    for (unsigned i = 0; i < 32; ++i) {
      if ((mask >> i & 1u) == 0) continue;
      auto& self = threads_[first + i];
      if (asked.kind == call_kind::shuffle) {
        if ((mask >> self.asked.source & 1u) == 0)
          throw divergence("a shuffle reads lane " + std::to_string(self.asked.source) + ", which takes no part");
        self.answer = threads_[first + self.asked.source].asked.value;
      } else {
        self.answer = asked.kind == call_kind::ballot ? votes : equal[i];
      }
    }
    for (unsigned i = 0; i < 32; ++i)
      if ((mask >> i & 1u) != 0) release(first + i);
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

  // Switches. No variable of theirs lives across a setjmp.
  void enter(fiber& to) {
    announce(&own_fake_stack_, to.stack(), fiber::stack_bytes);
    if (_setjmp(own_place_) == 0) {
      if (to.started)
        _longjmp(to.place, 1);
      else
        start(to);
    }
    arrive(own_fake_stack_);
  }
  void leave(fiber& from) {
    announce(&from.fake_stack, own_stack_, own_stack_bytes_);
    if (_setjmp(from.place) == 0) _longjmp(own_place_, 1);
    arrive(fibers_[current_]->fake_stack);
  }
  void start(fiber& to) {
    to.started = true;
    ucontext_t context;
    ::getcontext(&context);
    context.uc_stack.ss_sp = to.stack();
    context.uc_stack.ss_size = fiber::stack_bytes;
    context.uc_link = nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(this);
    ::makecontext(&context, reinterpret_cast<void (*)()>(&machine::main_of_fiber), 2,
                  static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
#if defined(MOUE_TEST_ASAN)
    __asan_handle_no_return();  // clears the marks of frames that nobody will return to
#endif
    ::setcontext(&context);
  }
  static void main_of_fiber(unsigned high, unsigned low) {
    auto* const self = reinterpret_cast<machine*>((static_cast<std::uintptr_t>(high) << 32) | low);
    self->first_arrival();
    for (;;) {
      self->run_body();
      self->leave(*self->fibers_[self->current_]);
    }
  }
  void run_body() {
    try {
      body_(context_);
    } catch (...) {
      failure_ = std::current_exception();
    }
    threads_[current_].what = state::ended;
  }

#if defined(MOUE_TEST_ASAN)
  static void announce(void** save, const void* stack, std::size_t bytes) {
    __sanitizer_start_switch_fiber(save, stack, bytes);
  }
  void arrive(void* saved) { __sanitizer_finish_switch_fiber(saved, nullptr, nullptr); }
  void first_arrival() { __sanitizer_finish_switch_fiber(nullptr, &own_stack_, &own_stack_bytes_); }
  static void mark_unused_shared(std::size_t used, bool closed) {
    auto* const end = moue::detail::gpu::dynamic_shared + used;
    const std::size_t bytes = moue::detail::gpu::most_dynamic_shared - used;
    closed ? __asan_poison_memory_region(end, bytes) : __asan_unpoison_memory_region(end, bytes);
  }
#else
  static void announce(void**, const void*, std::size_t) {}
  void arrive(void*) {}
  void first_arrival() {}
  static void mark_unused_shared(std::size_t, bool) {}
#endif

  std::vector<std::unique_ptr<fiber>> fibers_;
  std::vector<thread> threads_;
  std::vector<std::size_t> ready_;
  std::size_t current_ = 0;
  std::uint64_t random_ = 1;
  void (*body_)(const void*) = nullptr;
  const void* context_ = nullptr;
  std::exception_ptr failure_;
  bool running_ = false;
  jmp_buf own_place_ = {};
  void* own_fake_stack_ = nullptr;
  const void* own_stack_ = nullptr;
  std::size_t own_stack_bytes_ = 0;
};

inline machine& current_machine() {
  static thread_local machine one;
  return one;
}

/// What `kernel<<<grid, block, shared>>>(arguments...)` does, with the threads in an order that `seed` says.
template <class... Parameters, class... Arguments>
void launch(std::uint64_t seed, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            const Arguments&... arguments) {
  current_machine().run(grid, block, shared, seed, [&] { kernel(static_cast<Parameters>(arguments)...); });
}

template <class T>
T shuffle(unsigned mask, T value, unsigned source, const char* file, unsigned line) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = current_machine().wait({call_kind::shuffle, mask, bits, source, file, line});
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline unsigned vote(unsigned mask, bool value, const char* file, unsigned line) {
  return static_cast<unsigned>(current_machine().wait({call_kind::ballot, mask, value, 0, file, line}));
}

}  // namespace test::emulator

inline void __syncthreads(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
  test::emulator::current_machine().wait({test::emulator::call_kind::block_barrier, 0, 0, 0, file, line});
}
inline void __syncwarp(unsigned mask = ~0u, const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
  test::emulator::current_machine().wait({test::emulator::call_kind::warp_barrier, mask, 0, 0, file, line});
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, const char* file = __builtin_FILE(),
              unsigned line = __builtin_LINE()) {
  const unsigned lane = test::emulator::current_machine().lane(), size = static_cast<unsigned>(width);
  return test::emulator::shuffle(mask, value, lane / size * size + static_cast<unsigned>(source) % size, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, const char* file = __builtin_FILE(),
                  unsigned line = __builtin_LINE()) {
  const unsigned lane = test::emulator::current_machine().lane(), size = static_cast<unsigned>(width);
  const unsigned source = lane ^ static_cast<unsigned>(bits);
  return test::emulator::shuffle(mask, value, source < lane / size * size + size ? source : lane, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, const char* file = __builtin_FILE(),
                   unsigned line = __builtin_LINE()) {
  const unsigned lane = test::emulator::current_machine().lane(), size = static_cast<unsigned>(width);
  return test::emulator::shuffle(mask, value, lane % size + by < size ? lane + by : lane, file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, const char* file = __builtin_FILE(),
                 unsigned line = __builtin_LINE()) {
  const unsigned lane = test::emulator::current_machine().lane(), size = static_cast<unsigned>(width);
  return test::emulator::shuffle(mask, value, lane % size >= by ? lane - by : lane, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              unsigned line = __builtin_LINE()) {
  return test::emulator::vote(mask, predicate != 0, file, line);
}
inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      unsigned line = __builtin_LINE()) {
  return test::emulator::vote(mask, predicate != 0, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      unsigned line = __builtin_LINE()) {
  return test::emulator::vote(mask, predicate == 0, file, line) == 0;
}
template <std::integral T>
unsigned __match_any_sync(unsigned mask, T value, const char* file = __builtin_FILE(),
                          unsigned line = __builtin_LINE()) {
  return static_cast<unsigned>(test::emulator::current_machine().wait(
      {test::emulator::call_kind::match, mask, static_cast<std::uint64_t>(value), 0, file, line}));
}

template <std::integral T>
T atomicAdd(T* place, std::type_identity_t<T> value) {
  test::emulator::current_machine().maybe_pause();
  return std::exchange(*place, static_cast<T>(*place + value));
}
inline void __threadfence() {}
template <class T>
T __ldg(const T* place) {
  return *place;
}
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
