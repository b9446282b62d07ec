// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The CUDA backend inside torch: on its current stream, with its cuBLAS handles and its memory. Needs nvcc, and a torch
/// for CUDA; the file that includes it links torch_cuda and c10_cuda.

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "moue/backend/cuda.cuh"

namespace moue::inline v0_1 {

/// Whatever it queues goes to the stream that is torch's current one in the calling thread, on the device that is current
/// there; in backward, torch makes current what was so in forward. Holds neither stream nor handle, so that any number of
/// threads may use it at once. A `Runtime`.
class torch_cuda_runtime {
 public:
  /// torch's current stream.
  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream().stream(); }
  detail::gpu::cublas_calls blas() const {
    at::cuda::getCurrentCUDABlasHandle();  // sets the stream of this thread's handle, which may have worked elsewhere
    return here().blas();
  }
  int multiprocessors() const { return here().multiprocessors(); }

  /// Which kernels compute products.
  product_choice choice() const { return choice_ ? *choice_ : here().choice(); }
  /// The same with another choice of kernels.
  torch_cuda_runtime with(const product_choice& choice) const {
    auto result = *this;
    result.choice_ = choice;
    return result;
  }

  auto policy() const { return here().policy(); }
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
              const Arguments&... arguments) const {
    here().launch(kernel, grid, block, shared, arguments...);
  }
  void upload(const void* from, void* to, std::size_t bytes) const { here().upload(from, to, bytes); }
  void download(const void* from, void* to, std::size_t bytes) const { here().download(from, to, bytes); }
  void copy(const void* from, void* to, std::size_t bytes) const { here().copy(from, to, bytes); }
  void zero(void* to, std::size_t bytes) const { here().zero(to, bytes); }
  void synchronise() const { here().synchronise(); }

  /// From torch's allocator, for work on its current stream.
  void* allocate(std::size_t bytes) const {
    return bytes > 0 ? c10::cuda::CUDACachingAllocator::raw_alloc(bytes) : nullptr;
  }
  void release(void* memory) const {
    if (memory != nullptr) c10::cuda::CUDACachingAllocator::raw_delete(memory);
  }

 private:
  /// Of this thread, for what is current. Owns nothing: torch's streams and handles live as long as torch.
  static const cuda_runtime& here() {
    struct known {
      c10::cuda::CUDAStream stream;
      cuda_runtime runtime;
    };
    thread_local std::vector<known> all;
    const auto current = c10::cuda::getCurrentCUDAStream();
    for (const auto& each : all)
      if (each.stream == current) return each.runtime;
    all.push_back({current, cuda_runtime(current.stream(), at::cuda::getCurrentCUDABlasHandle())});
    return all.back().runtime;
  }

  std::optional<product_choice> choice_;
};
static_assert(Runtime<torch_cuda_runtime>);

/// The backend of mixtures whose tensors are torch's on a CUDA device: `moue::mixture{..., moue::torch_cuda{}}`. Making it
/// needs no device.
using torch_cuda = basic_cuda<torch_cuda_runtime>;

}  // namespace moue::inline v0_1
