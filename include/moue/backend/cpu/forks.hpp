// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Whether this is still the process in which threads were made: a forked child has a copy of them that nothing runs.

#include <atomic>
#include <cstdint>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace moue::inline v0_1::detail {

inline constinit std::atomic<std::uint64_t> forks_seen{0};
inline constinit std::atomic<bool> forks_watched{false};

/// A number that changes in the child of every fork after the first call. Process ids would not do: in a container a
/// child may have its parent's.
inline std::uint64_t forks() {
#if defined(__unix__) || defined(__APPLE__)
  if (!forks_watched.load()) {  // No lock, which a fork might leave locked: to count a fork twice does no harm.
    if (pthread_atfork(nullptr, nullptr, [] { forks_seen.fetch_add(1); }) != 0) throw std::bad_alloc();
    forks_watched.store(true);
  }
#endif
  return forks_seen.load();
}

}  // namespace moue::inline v0_1::detail
