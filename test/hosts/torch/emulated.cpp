// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What the adapter does for a device, on the emulated one.

#include "depth.hpp"
#include "emulated_models.hpp"
#include "models.hpp"

// Last: glog, which Debian's torch includes, has a macro CHECK as well.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

namespace {

// Both sum the same products of numbers near 1 in fp64, in other orders.
constexpr double rounding = 1e-12;

}  // namespace

TEST_CASE("trips compute on a device what they do on the host") {
  const auto host = run_depth(make_model<double>("universal"), at::kCPU);
  CHECK(apart(run_depth(make_emulated_as_host(), at::kCPU), host) < rounding);
}

TEST_CASE("so do experts alone") {
  const auto host = make_experts<double>();
  const auto there = make_emulated_experts_as_host();
  const auto device = [&](const auto&... arguments) {
    return moue::detail::torch_experts_node<double>::apply(arguments..., there);
  };
  CHECK(apart(run_experts(host.layout(), device, at::kCPU), run_experts(host.layout(), host, at::kCPU)) < rounding);
}

TEST_CASE("tensors of another place than a model's are refused") {
  const auto host = make_model<double>("universal"), device = make_emulated();
  CHECK(host->on_host());
  CHECK(!device->on_host());
  const auto weights = weights_of(host);
  CHECK_THROWS_WITH_AS(moue::torch_trip<double>(device, weights, {.tokens = tokens}),
                       doctest::Contains("is on device cpu; give a dense tensor on cuda, where this mixture runs"),
                       moue::error);
  moue::torch_trip<double> trip(host, weights, {.tokens = tokens});
  const auto elsewhere = at::empty({tokens, width}, at::TensorOptions().dtype(at::kDouble).device(at::kMeta));
  CHECK_THROWS_WITH_AS(trip.forward(0, elsewhere),
                       doctest::Contains("is on device meta; give a dense tensor on the CPU, where this mixture runs"),
                       moue::error);
  const auto valid = at::empty({tokens}, at::TensorOptions().dtype(at::kBool).device(at::kMeta));
  CHECK_THROWS_WITH_AS(moue::torch_trip<double>(host, weights, {.tokens = tokens, .valid = valid}),
                       doctest::Contains("valid is on device meta"), moue::error);
}
