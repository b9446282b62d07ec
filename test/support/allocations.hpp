// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

/// Counts every allocation of the program. Replaces the global operators: include it in one source file of a program.
namespace test {
inline std::atomic<int> allocations{0};

inline void* counted_new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
}  // namespace test

// Inlined, g++ takes malloc and free apart again and warns that they do not match operator new and delete.
[[gnu::noinline]] void* operator new(std::size_t size) { return test::counted_new(size); }
[[gnu::noinline]] void* operator new[](std::size_t size) { return test::counted_new(size); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
