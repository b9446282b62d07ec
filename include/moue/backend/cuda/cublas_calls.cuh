// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The calls that blas.cuh puts together, handed to cuBLAS.

#include <cublas_v2.h>

#include "moue/backend/cuda/blas.cuh"
#include "moue/backend/cuda/check.cuh"

namespace moue::inline v0_1::detail::gpu {

/// Runs on a handle's stream. The handle's pointer mode must be the host's.
class cublas_calls {
 public:
  explicit cublas_calls(cublasHandle_t handle) : handle_(handle) {}

  void gemm(const gemm_call& call) const {
    const scalar one(1), beta(call.mode == store::add ? 1 : 0);
    const bool wide = call.result == number::float64;
    check(cublasGemmEx_64(handle_, operation(call.a.transposed), operation(call.b.transposed), call.m, call.n, call.k,
                          one.in(wide), call.a.data, type(call.factors), call.a.leading, call.b.data,
                          type(call.factors), call.b.leading, beta.in(wide), call.c, type(call.result), call.c_leading,
                          compute(call.factors, call.tf32), CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
  }

 private:
  struct scalar {
    explicit scalar(double value) : wide(value), narrow(static_cast<float>(value)) {}
    const void* in(bool as_double) const { return as_double ? static_cast<const void*>(&wide) : &narrow; }
    double wide;
    float narrow;
  };

  static cublasOperation_t operation(bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }
  static cudaDataType_t type(number n) {
    switch (n) {
      case number::float64:
        return CUDA_R_64F;
      case number::bf16:
        return CUDA_R_16BF;
      case number::half:
        return CUDA_R_16F;
      default:
        return CUDA_R_32F;
    }
  }
  /// Pedantic, so that a handle's math mode cannot bring TF32 in.
  static cublasComputeType_t compute(number n, bool tf32) {
    if (n == number::float64) return CUBLAS_COMPUTE_64F_PEDANTIC;
    if (n != number::float32) return CUBLAS_COMPUTE_32F;
    return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F_PEDANTIC;
  }

  cublasHandle_t handle_;
};

}  // namespace moue::inline v0_1::detail::gpu
