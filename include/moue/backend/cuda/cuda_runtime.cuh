// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The runtime of a CUDA device.

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <thrust/system/cuda/execution_policy.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "moue/backend/cuda/check.cuh"
#include "moue/backend/cuda/cublas_calls.cuh"
#include "moue/backend/cuda/guard.cuh"
#include "moue/backend/cuda/products.cuh"
#include "moue/backend/cuda/runtime.cuh"

namespace moue::inline v0_1 {

/// A stream and a cuBLAS handle on the device that is current when it is made. Whatever queues work throws where another one
/// is current. What waits, copies from and to the host and allocations, throws while the stream is being captured, and leaves
/// the capture whole; memory that is released meanwhile is freed by the next of them. Copies share stream and handle. Errors of earlier calls that nobody looked at surface here.
class cuda_runtime {
 public:
  /// With a stream of its own, in order with the default stream: a plain `cudaMemcpy` or kernel of the caller's waits for
  /// the work queued before it, and is waited for. Give a stream made with `cudaStreamNonBlocking` where that is not wanted.
  cuda_runtime() : state_(std::make_shared<state>(nullptr)) {
    auto& s = *state_;
    look_at_device();
    detail::gpu::check(cudaStreamCreate(&s.stream), "making a stream");
    s.owns_stream = true;
    make_blas();
  }
  /// On the caller's stream.
  explicit cuda_runtime(cudaStream_t stream) : state_(std::make_shared<state>(stream)) {
    look_at_device();
    make_blas();
  }
  /// On the caller's stream and handle, whose stream is set to it and whose pointer mode to the host's; both must stay
  /// so. Give the handle a workspace of its own after this if calls are to be captured in a graph.
  cuda_runtime(cudaStream_t stream, cublasHandle_t blas) : state_(std::make_shared<state>(stream)) {
    look_at_device();
    state_->blas = blas;
    set_up(blas);
  }

  /// The stream that all work is queued on.
  cudaStream_t stream() const { return state_->stream; }
  detail::gpu::cublas_calls blas() const {
    state_->guard.enter("calling cuBLAS");
    return detail::gpu::cublas_calls(state_->blas);
  }
  int multiprocessors() const { return state_->multiprocessors; }

  /// Which kernels compute products. Another choice gives a runtime that shares all else, cuda{runtime.with(choice)} a
  /// backend that follows it.
  const product_choice& choice() const { return choice_; }
  /// The same stream and handle, and another choice of kernels.
  cuda_runtime with(const product_choice& choice) const {
    auto result = *this;
    result.choice_ = choice;
    return result;
  }
  /// Memory of the device, provided for copies of 16-bit factors on their way to cuBLAS; wanted only where products of
  /// experts go there, see `product_choice`.
  std::span<std::byte> scratch() const { return scratch_; }
  /// The same with scratch.
  cuda_runtime with(std::span<std::byte> scratch) const {
    auto result = *this;
    result.scratch_ = scratch;
    return result;
  }

  auto policy() const {
    state_->guard.enter("launching a kernel");
    return thrust::cuda::par_nosync.on(state_->stream);
  }

  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
              const Arguments&... arguments) const {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    state_->guard.enter("launching a kernel");
    constexpr std::size_t unasked = 48 << 10;
    if (shared > unasked)
      detail::gpu::check(
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "asking for more shared memory");
    kernel<<<grid, block, shared, state_->stream>>>(static_cast<Parameters>(arguments)...);
    detail::gpu::check(cudaGetLastError(), "launching a kernel");
  }

  void upload(const void* from, void* to, std::size_t bytes) const {
    state_->guard.wait("copying to the device");
    detail::gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, state_->stream),
                       "copying to the device");
    wait_for_stream();
  }
  void download(const void* from, void* to, std::size_t bytes) const {
    state_->guard.wait("copying from the device");
    detail::gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, state_->stream),
                       "copying from the device");
    wait_for_stream();
  }
  void copy(const void* from, void* to, std::size_t bytes) const {
    state_->guard.enter("copying on the device");
    detail::gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, state_->stream),
                       "copying on the device");
  }
  void zero(void* to, std::size_t bytes) const {
    state_->guard.enter("clearing memory");
    detail::gpu::check(cudaMemsetAsync(to, 0, bytes, state_->stream), "clearing memory");
  }
  void synchronise() const {
    state_->guard.wait("synchronise");
    wait_for_stream();
  }

  void* allocate(std::size_t bytes) const {
    void* memory = nullptr;
    state_->guard.wait("allocating memory");
    if (bytes > 0)
      if (const cudaError_t code = cudaMalloc(&memory, bytes); code != cudaSuccess)
        detail::gpu::check(code, "allocating " + std::to_string(bytes) + " bytes on the device");
    return memory;
  }
  /// Waits for the device, as freeing its memory does.
  void release(void* memory) const noexcept { state_->guard.free(memory); }

 private:
  struct calls {
    const cudaStream_t* stream;
    int current_device() const {
      int device = 0;
      detail::gpu::check(cudaGetDevice(&device), "looking for a device");
      return device;
    }
    bool capturing() const {
      cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
      detail::gpu::check(cudaStreamIsCapturing(*stream, &status), "asking whether a graph is being captured");
      return status != cudaStreamCaptureStatusNone;
    }
    void free(void* memory) const noexcept { cudaFree(memory); }
  };
  struct state {
    cudaStream_t stream;
    cublasHandle_t blas = nullptr;
    void* blas_workspace = nullptr;
    int multiprocessors = 0;
    bool owns_stream = false, owns_blas = false;
    detail::gpu::device_guard<calls> guard{calls{&stream}};

    explicit state(cudaStream_t s) : stream(s) {}
    state(const state&) = delete;
    state& operator=(const state&) = delete;
    ~state() {
      if (owns_blas) cublasDestroy(blas);
      cudaFree(blas_workspace);
      if (owns_stream) cudaStreamDestroy(stream);
    }
  };

  void wait_for_stream() const { detail::gpu::check(cudaStreamSynchronize(state_->stream), "waiting for the device"); }
  void look_at_device() {
    const int device = state_->guard.device();
    detail::gpu::check(cudaDeviceGetAttribute(&state_->multiprocessors, cudaDevAttrMultiProcessorCount, device),
                       "asking for the number of multiprocessors");
    int shared = 0;
    detail::gpu::check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                       "asking for the shared memory of a block");
    choice_.shared_bytes = shared;
    choice_.multiprocessors = state_->multiprocessors;
  }
  void set_up(cublasHandle_t blas) const {
    detail::gpu::check(cublasSetStream(blas, state_->stream), "setting the stream of a cuBLAS handle");
    detail::gpu::check(cublasSetPointerMode(blas, CUBLAS_POINTER_MODE_HOST), "setting the pointer mode");
  }
  /// The handle gets memory of its own, so that it allocates nothing later, in a capture least of all.
  void make_blas() {
    constexpr std::size_t workspace_bytes = 32 << 20;  // what cuBLAS itself takes on compute capability 9.0
    auto& s = *state_;
    detail::gpu::check(cublasCreate(&s.blas), "making a cuBLAS handle");
    s.owns_blas = true;
    set_up(s.blas);
    s.blas_workspace = allocate(workspace_bytes);
    detail::gpu::check(cublasSetWorkspace(s.blas, s.blas_workspace, workspace_bytes),
                       "giving a cuBLAS handle its workspace");
  }

  std::shared_ptr<state> state_;
  product_choice choice_;
  std::span<std::byte> scratch_;
};
static_assert(Runtime<cuda_runtime>);

}  // namespace moue::inline v0_1
