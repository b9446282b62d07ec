// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Layers trained on a GPU, on a stream of the caller's: step by step, and as a CUDA graph of a whole training step that is
// replayed. Ends with 77 where there is no device.

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <moue/cuda.cuh>
#include <stdexcept>

#include "regression.hpp"

namespace {

constexpr int steps = 200, no_device = 77;

void check(cudaError_t code) {
  if (code != cudaSuccess) throw std::runtime_error(cudaGetErrorString(code));
}

bool same_bits(const moue::parameters<float>& a, const moue::parameters<float>& b) {
  for (moue::index_t i = 0; i < a.layout().tensors(); ++i)
    if (std::memcmp(a[i].data, b[i].data, static_cast<std::size_t>(a.layout()[i].size()) * sizeof(float)) != 0)
      return false;
  return true;
}

void train(cudaStream_t stream) {
  const moue::cuda gpu{stream};  // all work of the library is queued on this stream
  regression eager(gpu, 256, 64), replayed(gpu, 256, 64);

  eager.step();
  const float first = eager.loss();
  for (int step = 1; step < steps; ++step) eager.step();
  const float last = eager.loss();

  replayed.step();  // the first step sends tables of addresses, which a graph refuses to do
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  replayed.step();
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  for (int step = 1; step < steps; ++step) check(cudaGraphLaunch(executable, stream));
  const bool same = same_bits(eager.weights(), replayed.weights());
  check(cudaGraphExecDestroy(executable));
  check(cudaGraphDestroy(graph));

  std::printf("the loss fell to less than a tenth: %s\n", last < first / 10 ? "yes" : "no");
  std::printf("%d replays of a graph give the same bits: %s\n", steps - 1, same ? "yes" : "no");
  if (!same || !(last < first / 10)) throw std::runtime_error("that is not what was meant to happen");
}

}  // namespace

int main() {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || devices == 0) {
    std::printf("no CUDA device: %s\n", found != cudaSuccess ? cudaGetErrorString(found) : "the driver sees none");
    return no_device;
  }
  try {
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    train(stream);
    check(cudaStreamDestroy(stream));
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "gpu_layer: %s\n", failure.what());
    return 1;
  }
}
