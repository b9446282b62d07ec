// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What a project does that uses the library on a GPU. Without one it sees the reason.

#include <moue/cuda.cuh>
#include <string_view>
#include <vector>

int main() try {
  const moue::cuda gpu;
  const auto numbers = gpu.make_array<float>(3);
  numbers.upload(std::vector<float>{1, 2, 3});
  return numbers.download() == std::vector<float>{1, 2, 3} ? 0 : 1;
} catch (const moue::error& failure) {
  return std::string_view(failure.what()).find("run on a machine with a GPU") != std::string_view::npos ? 0 : 1;
}
