// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Mixtures on torch's CUDA device, where one answers; what needs none anywhere.

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/cuda.h>
#include <torch/optim/adam.h>

#include "cuda_models.hpp"
#include "depth.hpp"
#include "models.hpp"

// Last: glog, which Debian's torch includes, has a macro CHECK as well.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

namespace {

// Both sum the same products of numbers near 1 in fp64, in other orders.
constexpr double rounding = 1e-12;

bool device_answers() {
  const bool any = torch::cuda::is_available();
  if (!any) MESSAGE("NOT TESTED: no CUDA device answers");
  return any;
}

}  // namespace

TEST_CASE("tensors of the host are refused by a model on the device") {
  const auto device = make_cuda_model();
  CHECK(!device->on_host());
  CHECK_THROWS_WITH_AS(moue::torch_trip<double>(device, weights_of(device), {.tokens = tokens}),
                       doctest::Contains("is on device cpu; give a dense tensor on cuda, where this mixture runs"),
                       moue::error);
}

TEST_CASE("trips compute on the device what they do on the host, on any stream") {
  if (!device_answers()) return;
  const auto host = run_depth(make_model<double>("universal"), at::kCPU);
  const auto device = make_cuda_model();
  CHECK(apart(run_depth(device, at::kCUDA), host) < rounding);
  const c10::cuda::CUDAStreamGuard other(c10::cuda::getStreamFromPool());
  CHECK(apart(run_depth(device, at::kCUDA), host) < rounding);
}

TEST_CASE("so do experts alone") {
  if (!device_answers()) return;
  const auto host = make_experts<double>();
  const auto device = make_cuda_experts();
  CHECK(apart(run_experts(host.layout(), device, at::kCUDA), run_experts(host.layout(), host, at::kCPU)) < rounding);
}

TEST_CASE("a module has its weights on the device, and is trained there") {
  if (!device_answers()) return;
  const auto host = make_model<double>("universal");
  moue::torch_mixture<double> device(make_cuda_model(), 3), same(host, 3);
  for (std::size_t i = 0; i < same.parameters().size(); ++i)
    CHECK(at::equal(device.parameters()[i].cpu(), same.parameters()[i]));
  torch::optim::Adam optimiser(device.parameters(), 1e-2);
  const auto x = at::randn({64, width}, at::TensorOptions().dtype(at::kDouble).device(at::kCUDA));
  double first = 0, last = 0;
  for (int step = 0; step < 100; ++step) {
    auto trip = device.start({.tokens = 64});
    auto h = x;
    for (moue::index_t layer = 0; layer < 3; ++layer) h = h + trip.forward(layer, h);
    const auto loss = (h - x.abs()).square().mean() + trip.balance();
    optimiser.zero_grad();
    loss.backward();
    optimiser.step();
    (step == 0 ? first : last) = loss.item<double>();
  }
  CHECK(last < first / 2);
}

TEST_CASE("tensors of the device are refused by a model on the host") {
  if (!device_answers()) return;
  const auto host = make_model<double>("universal");
  moue::torch_trip<double> trip(host, weights_of(host), {.tokens = tokens});
  const auto x = at::randn({tokens, width}, at::TensorOptions().dtype(at::kDouble).device(at::kCUDA));
  CHECK_THROWS_WITH_AS(trip.forward(0, x), doctest::Contains("give a dense tensor on the CPU, where this mixture runs"),
                       moue::error);
}
