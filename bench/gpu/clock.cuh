// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Times of work on a stream, queued call by call or replayed as a graph.

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "moue/backend/cuda/check.cuh"

namespace bench {

using moue::detail::gpu::check;

/// Writes more than a last-level cache holds before each run, for figures of cold caches.
class cache_flush {
 public:
  explicit cache_flush(bool wanted) {
    if (wanted) check(cudaMalloc(&memory_, bytes), "allocating memory to flush caches with");
  }
  cache_flush(const cache_flush&) = delete;
  cache_flush& operator=(const cache_flush&) = delete;
  ~cache_flush() { cudaFree(memory_); }

  void operator()(cudaStream_t stream) const {
    if (memory_ != nullptr) check(cudaMemsetAsync(memory_, 1, bytes, stream), "flushing caches");
  }

 private:
  static constexpr std::size_t bytes = std::size_t{512} << 20;
  void* memory_ = nullptr;
};

/// How many runs a median is taken of: at least so many, and more while they take less than some seconds in all.
struct effort {
  std::size_t least = 20, most = 200;
  double seconds = 1;
};

/// The median time of `queue()` on a stream, in microseconds, after 3 runs that do not count.
template <class F>
double median_us(cudaStream_t stream, const cache_flush& flush, const effort& how, const F& queue) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "making an event");
  check(cudaEventCreate(&end), "making an event");
  std::vector<double> times;
  for (int run = 0; run < 3; ++run) queue();
  check(cudaStreamSynchronize(stream), "waiting for the device");
  const auto start = std::chrono::steady_clock::now();
  const std::chrono::duration<double> enough(how.seconds);
  while (times.size() < how.least || (times.size() < how.most && std::chrono::steady_clock::now() - start < enough)) {
    flush(stream);
    check(cudaEventRecord(begin, stream), "recording an event");
    queue();
    check(cudaEventRecord(end, stream), "recording an event");
    check(cudaEventSynchronize(end), "waiting for an event");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "reading events");
    times.push_back(1e3 * static_cast<double>(ms));
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + std::ssize(times) / 2, times.end());
  return times[times.size() / 2];
}

/// A graph of what a function queues.
class captured {
 public:
  /// Nothing where it cannot be captured, as calls that copy from or to the host cannot.
  template <class F>
  static std::optional<captured> of(cudaStream_t stream, const F& queue) {
    captured result;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning a capture");
    bool queued = true;
    try {
      queue();
    } catch (const std::exception&) {
      queued = false;
    }
    const cudaError_t ended = cudaStreamEndCapture(stream, &result.graph_);
    if (!queued || ended != cudaSuccess || cudaGraphInstantiate(&result.runnable_, result.graph_, 0) != cudaSuccess) {
      cudaGetLastError();  // the capture's own, which would surface later
      return std::nullopt;
    }
    return result;
  }
  captured(captured&& other) noexcept
      : graph_(std::exchange(other.graph_, nullptr)), runnable_(std::exchange(other.runnable_, nullptr)) {}
  captured& operator=(captured&&) = delete;
  ~captured() {
    if (runnable_ != nullptr) cudaGraphExecDestroy(runnable_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }

  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(runnable_, stream), "launching a graph"); }
  /// Kernels, copies and fills.
  long nodes() const {
    std::size_t count = 0;
    check(cudaGraphGetNodes(graph_, nullptr, &count), "counting a graph's nodes");
    return static_cast<long>(count);
  }

 private:
  captured() = default;

  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t runnable_ = nullptr;
};

}  // namespace bench
