// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the CUDA Toolkit answers, as exceptions that say what failed and how to fix it.

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "moue/error.hpp"

namespace moue::inline v0_1::detail::gpu {

inline std::string_view fix_of(cudaError_t code) {
  switch (code) {
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
      return "run on a machine with a GPU and a driver for this CUDA version";
    case cudaErrorMemoryAllocation:
      return "use fewer tokens per pass, or free memory of the device";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      return "compile for this device's architecture (CMAKE_CUDA_ARCHITECTURES)";
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
      return "run the pass once before capturing it, and take queue_balance in place of balance";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
      return "an earlier kernel failed: give only device memory of the right size, and look with compute-sanitizer";
    default:
      return "see the error's page in the CUDA documentation";
  }
}

/// Throws unless `code` is success; `what` was being done.
inline void check(cudaError_t code, std::string_view what) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // told here, it is not to surface at the next launch
  throw error(
      "cuda",
      std::string(what).append(": ").append(cudaGetErrorString(code)).append(" (").append(cudaGetErrorName(code)) + ")",
      fix_of(code), error_kind::system);
}

inline void check(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const std::string_view fix = status == CUBLAS_STATUS_NOT_INITIALIZED
                                   ? "run on a machine with a GPU and a driver for this CUDA version"
                               : status == CUBLAS_STATUS_ALLOC_FAILED ? "free memory of the device"
                                                                      : "see the status in the cuBLAS documentation";
  throw error("cuda", std::string(what).append(": ").append(cublasGetStatusString(status)), fix, error_kind::system);
}

}  // namespace moue::inline v0_1::detail::gpu
