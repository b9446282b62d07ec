// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Vector registers of the processor that a translation unit is compiled for, as the compilers' vector types.

#include <cstring>
#include <type_traits>

#include "moue/config.hpp"

namespace moue::inline v0_1::detail {

/// Whether numbers of type C fit `vector_of`.
template <class C>
inline constexpr bool has_vectors = MOUE_VECTOR_TYPES && (std::is_same_v<C, float> || std::is_same_v<C, double>);

#if MOUE_VECTOR_TYPES

#if defined(__AVX512F__)
inline constexpr int register_bytes = 64, register_count = 32;
#elif defined(__AVX__)
inline constexpr int register_bytes = 32, register_count = 16;
#elif defined(__aarch64__)
inline constexpr int register_bytes = 16, register_count = 32;
#else
inline constexpr int register_bytes = 16, register_count = 16;
#endif

/// Numbers in one register, on which compilers do arithmetic element by element.
template <class C>
struct vector_register {
  typedef C type __attribute__((vector_size(register_bytes)));
  static constexpr int size = register_bytes / static_cast<int>(sizeof(C));
};
template <class C>
using vector_of = typename vector_register<C>::type;

// By reference: passing a vector by value is another call on every instruction set, of which compilers warn.

template <class C>
[[gnu::always_inline]] inline void load(vector_of<C>& v, const C* from) {
  std::memcpy(&v, from, sizeof v);
}
template <class C>
[[gnu::always_inline]] inline void put(const vector_of<C>& v, C* to) {
  std::memcpy(to, &v, sizeof v);
}

#endif

}  // namespace moue::inline v0_1::detail
