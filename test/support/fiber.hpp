// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Stacks that a thread switches between. AddressSanitizer is told of every switch. On x86-64 a switch saves what a call
// preserves and exchanges the stack pointer; elsewhere ucontext does it, with system calls.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "address_sanitizer.hpp"

#if defined(MOUE_TEST_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__) && !defined(MOUE_TEST_UCONTEXT)
/// Leaves the current stack, whose place goes to `from`, for the one whose place is `to`.
extern "C" void moue_test_switch(void** from, void* to);
asm(R"(
.text
.type moue_test_switch, @function
moue_test_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size moue_test_switch, .-moue_test_switch
)");
#else
#include <ucontext.h>
#endif

namespace test::emulator {

/// Where a stack was left.
class stack_place {
 public:
#if defined(__x86_64__) && !defined(MOUE_TEST_UCONTEXT)
  /// The first switch here calls `start`, which must not return.
  void begin(std::byte* memory, std::size_t bytes, void (*start)()) {
    constexpr std::size_t saved = 6;
    auto* const top = reinterpret_cast<void**>(memory + bytes) - 1;  // as after a call: 8 bytes past a multiple of 16
    *top = nullptr;
    top[-1] = reinterpret_cast<void*>(start);
    for (std::size_t i = 0; i < saved; ++i) top[-2 - static_cast<std::ptrdiff_t>(i)] = nullptr;
    at_ = top - 1 - saved;
  }
  void switch_to(stack_place& other) { moue_test_switch(&at_, other.at_); }

 private:
  void* at_ = nullptr;
#else
  void begin(std::byte* memory, std::size_t bytes, void (*start)()) {
    ::getcontext(&at_);
    at_.uc_stack.ss_sp = memory;
    at_.uc_stack.ss_size = bytes;
    at_.uc_link = nullptr;
    ::makecontext(&at_, start, 0);
  }
  void switch_to(stack_place& other) { ::swapcontext(&at_, &other.at_); }

 private:
  ucontext_t at_ = {};
#endif
};

/// A stack of its own, with a guard below it, that the thread's own stack switches to and that switches back.
class fiber {
 public:
  explicit fiber(void (*start)()) {
    memory_ = ::mmap(nullptr, guard_bytes + stack_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    ::mprotect(memory_, guard_bytes, PROT_NONE);
    place_.begin(stack(), stack_bytes, start);
  }
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;
  ~fiber() {
#if defined(MOUE_TEST_ASAN)
    __asan_unpoison_memory_region(stack(), stack_bytes);
#endif
    ::munmap(memory_, guard_bytes + stack_bytes);
  }

  /// From the thread's own stack, until `leave`.
  void enter() {
#if defined(MOUE_TEST_ASAN)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack(), stack_bytes);
    outside().switch_to(place_);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    outside().switch_to(place_);
#endif
  }
  /// On this stack, until the next `enter`.
  void leave() {
#if defined(MOUE_TEST_ASAN)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, outside_stack_, outside_bytes_);
    place_.switch_to(outside());
    __sanitizer_finish_switch_fiber(fake, &outside_stack_, &outside_bytes_);
#else
    place_.switch_to(outside());
#endif
  }
  /// To be called once, before anything else, on this stack.
  void arrived() {
#if defined(MOUE_TEST_ASAN)
    __sanitizer_finish_switch_fiber(nullptr, &outside_stack_, &outside_bytes_);
#endif
  }

 private:
  static constexpr std::size_t stack_bytes = 256 << 10, guard_bytes = 4 << 10;

  std::byte* stack() const { return static_cast<std::byte*>(memory_) + guard_bytes; }
  static stack_place& outside() {
    static thread_local stack_place one;
    return one;
  }

  void* memory_;
  stack_place place_;
#if defined(MOUE_TEST_ASAN)
  const void* outside_stack_ = nullptr;
  std::size_t outside_bytes_ = 0;
#endif
};

}  // namespace test::emulator
