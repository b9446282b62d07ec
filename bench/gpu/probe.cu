// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The device that run.sh builds for: a line with its architecture, and one that describes it. 77 where there is none.

#include <cuda_runtime.h>

#include <cstdio>

int main() {
  int devices = 0, driver = 0, runtime = 0;
  cudaDeviceProp device;
  cudaError_t answer = cudaGetDeviceCount(&devices);
  if (answer == cudaSuccess && devices > 0) answer = cudaGetDeviceProperties(&device, 0);
  if (answer != cudaSuccess || devices == 0) {
    std::printf("no CUDA device: %s\n", answer != cudaSuccess ? cudaGetErrorString(answer) : "the driver sees none");
    return 77;
  }
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  std::printf("%d%d\n", device.major, device.minor);
  std::printf("%s, %d multiprocessors, %.0f GB; driver for CUDA %d.%d, runtime %d.%d\n", device.name,
              device.multiProcessorCount, static_cast<double>(device.totalGlobalMem) * 1e-9, driver / 1000,
              driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
}
