// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A whole training step as a CUDA graph, on the caller's stream.

#include <doctest/doctest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "moue/cuda.cuh"

namespace {

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE("a graph of a training step repeats it to the bit") {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  {
    const moue::cuda gpu(stream);
    const moue::mixture model{moue::swiglu{.width = 64, .hidden = 96},
                              moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                              moue::universal_router(2), moue::universal_balance{}, gpu};
    const moue::index_t tokens = 100, size = tokens * model.width();
    const auto weights = gpu.make_parameters(model.initialize<float>(1));
    auto gradients = gpu.make_gradients<float>(model.layout());
    const moue::pass_options options{.tokens = tokens};
    auto scratch = gpu.make_workspace(model.workspace_bytes<float>(options));
    auto pass = model.start(weights, options, scratch);
    std::vector<float> numbers(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i % 17) / 17 - 0.5f;
    const auto in = gpu.make_array<float>(size), y = gpu.make_array<float>(size), dx = gpu.make_array<float>(size);
    const auto loss = gpu.make_array<float>(1);
    in.upload(numbers);
    const auto step = [&] {
      gradients.reset();
      pass.begin(tokens);
      const auto x = in.view(tokens, 64), out = y.view(tokens, 64), back = dx.view(tokens, 64);
      for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, layer == 0 ? x : out, out);
      gpu.runtime().copy(pass.queue_balance().data, loss.data(), sizeof(float));
      pass.arm();
      for (moue::index_t layer = model.layers(); layer-- > 0;)
        pass.backward(layer, layer == model.layers() - 1 ? x : back, back, gradients);
    };
    const auto results = [&] {
      moue::gradients<float> host(model.layout());
      gradients.copy_to(host);
      auto all = y.download();
      const auto add = [&](const auto& more) { all.insert(all.end(), more.begin(), more.end()); };
      add(dx.download());
      add(loss.download());
      for (moue::index_t i = 0; i < host.layout().tensors(); ++i)
        all.insert(all.end(), host[i].data, host[i].data + host[i].rows * host[i].cols);
      return all;
    };
    step();  // sends the tables of pointers
    const auto expected = results();

    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    step();
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    cudaGraphExec_t runnable = nullptr;
    REQUIRE(cudaGraphInstantiate(&runnable, graph, 0) == cudaSuccess);
    for (int run = 0; run < 2; ++run) {
      y.zero();
      dx.zero();
      REQUIRE(cudaGraphLaunch(runnable, stream) == cudaSuccess);
      CHECK(same_bits(results(), expected));
    }
    cudaGraphExecDestroy(runnable);
    cudaGraphDestroy(graph);
  }
  cudaStreamDestroy(stream);
}

TEST_CASE("what waits is refused inside a capture, which stays whole") {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  {
    const moue::cuda gpu(stream);
    const auto array = gpu.make_array<float>(4);
    std::vector<float> numbers(4);
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    array.zero();
    CHECK_THROWS_AS(array.download(numbers), moue::error);
    CHECK_THROWS_AS(array.upload(numbers), moue::error);
    CHECK_THROWS_AS(gpu.make_array<float>(4), moue::error);
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    cudaGraphDestroy(graph);
  }
  cudaStreamDestroy(stream);
}

TEST_CASE("work is in order with the default stream") {
  const moue::cuda gpu;
  const moue::index_t size = 1 << 26;
  const auto to = gpu.make_array<float>(size), from = gpu.make_array<float>(size);
  from.zero();
  to.zero();
  for (int i = 0; i < 20; ++i)  // long enough to be under way when the copy below is queued
    REQUIRE(cudaMemcpyAsync(to.data(), from.data(), sizeof(float) * size, cudaMemcpyDeviceToDevice, nullptr) ==
            cudaSuccess);
  REQUIRE(cudaMemsetAsync(from.data(), 0x3f, sizeof(float) * size, nullptr) == cudaSuccess);
  gpu.runtime().copy(from.data(), to.data(), sizeof(float) * size);
  float last = 0;
  REQUIRE(cudaMemcpy(&last, to.data() + size - 1, sizeof last, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(last == doctest::Approx(0.747f).epsilon(0.01));
}

TEST_CASE("more memory than a device has is refused with a reason") {
  const moue::cuda gpu;
  CHECK_THROWS_WITH_AS(gpu.allocate(std::size_t{1} << 60), doctest::Contains("use fewer tokens per pass"), moue::error);
}
