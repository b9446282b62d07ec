// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Stands where cuBLAS does: looks at every argument as its manual says, and computes with plain loops by columns.

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "moue/backend/cuda/blas.cuh"

namespace test {

/// An argument that cuBLAS would refuse, or that would touch memory that is not there.
struct blas_misuse : std::logic_error {
  using std::logic_error::logic_error;
};

class fake_blas {
 public:
  using gemm_call = moue::detail::gpu::gemm_call;
  using number = moue::detail::gpu::number;

  /// Memory that calls may read and write.
  void allow(const void* data, std::size_t bytes) {
    const auto first = reinterpret_cast<std::uintptr_t>(data);
    if (bytes > 0) memory_.push_back({first, first + bytes});
  }
  template <class T>
  void allow(const std::vector<T>& v) {
    allow(v.data(), v.size() * sizeof(T));
  }

  void gemm(const gemm_call& call) const {
    ++calls;
    check_types(call.factors, call.result);
    check_tf32(call.tf32, call.factors);
    run(call);
  }

  mutable std::size_t calls = 0;

 private:
  struct range {
    std::uintptr_t first, last;
  };

  static void require(bool holds, const std::string& what) {
    if (!holds) throw blas_misuse(what);
  }
  static std::int64_t size_of(number n) { return n == number::float64 ? 8 : n == number::float32 ? 4 : 2; }

  void require_memory(const void* data, std::size_t bytes, const std::string& what) const {
    const auto first = reinterpret_cast<std::uintptr_t>(data);
    const auto holds = [&](const range& r) { return first >= r.first && first + bytes <= r.last; };
    require(std::any_of(memory_.begin(), memory_.end(), holds), what + " outside of the memory that was given");
  }
  /// A matrix [rows, cols] by columns.
  void check_matrix(const void* data, std::int64_t leading, std::int64_t rows, std::int64_t cols, number type,
                    const std::string& name) const {
    require(leading >= std::max<std::int64_t>(1, rows), name + ": columns overlap");
    if (rows == 0 || cols == 0) return;
    require(data != nullptr, name + ": null");
    require(reinterpret_cast<std::uintptr_t>(data) % static_cast<std::size_t>(size_of(type)) == 0,
            name + ": not aligned to its numbers");
    require_memory(data, static_cast<std::size_t>(((cols - 1) * leading + rows) * size_of(type)), name);
  }
  static void check_types(number factors, number result) {
    const bool narrow = factors == number::bf16 || factors == number::half;
    require(factors == result || (narrow && result == number::float32), "an unsupported pair of types");
  }
  static void check_tf32(bool tf32, number factors) {
    require(!tf32 || factors == number::float32, "TF32 for numbers that are not float");
  }

  void run(const gemm_call& call) const {
    require(call.m >= 0 && call.n >= 0 && call.k >= 0, "a negative size");
    require(call.m > 0 && call.n > 0, "a result without numbers");
    check_matrix(call.a.data, call.a.leading, call.a.transposed ? call.k : call.m, call.a.transposed ? call.m : call.k,
                 call.factors, "a");
    check_matrix(call.b.data, call.b.leading, call.b.transposed ? call.n : call.k, call.b.transposed ? call.k : call.n,
                 call.factors, "b");
    check_matrix(call.c, call.c_leading, call.m, call.n, call.result, "c");
    const bool narrow = call.result == call.factors;
    switch (call.factors) {
      case number::float32:
        return compute<float, float, float>(call);
      case number::float64:
        return compute<double, double, double>(call);
      case number::bf16:
        return narrow ? compute<moue::bf16, float, moue::bf16>(call) : compute<moue::bf16, float, float>(call);
      case number::half:
        return narrow ? compute<moue::half, float, moue::half>(call) : compute<moue::half, float, float>(call);
    }
  }
  /// Factors of type T, sums in C, a result of type R.
  template <class T, class C, class R>
  static void compute(const gemm_call& call) {
    const auto at = [](const gemm_call::factor& f, std::int64_t row, std::int64_t column) {
      const std::int64_t place = f.transposed ? row * f.leading + column : column * f.leading + row;
      return static_cast<C>(static_cast<const T*>(f.data)[place]);
    };
    for (std::int64_t j = 0; j < call.n; ++j)
      for (std::int64_t i = 0; i < call.m; ++i) {
        R& out = static_cast<R*>(call.c)[j * call.c_leading + i];
        C sum = call.mode == moue::store::add ? static_cast<C>(out) : C(0);
        for (std::int64_t l = 0; l < call.k; ++l) sum += at(call.a, i, l) * at(call.b, l, j);
        out = R(sum);
      }
  }

  std::vector<range> memory_;
};

}  // namespace test
