// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What the GPU benchmark is made of, run by a host: its oracle sees errors, and baselines and library agree with it.

#include "emulated.hpp"  // before the kernels

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "../../bench/gpu/baseline.hpp"
#include "../../bench/gpu/layer.hpp"
#include "../../bench/gpu/oracle.hpp"
#include "../../bench/gpu/products.hpp"
#include "../../bench/gpu/report_table.hpp"
#include "fake_blas.hpp"

namespace {

using gpu_type = test::emulated_open;
constexpr bench::shape tiny{"tiny", 24, 16, 5, 2};
constexpr moue::index_t tokens = 13, size = tokens * tiny.width;

struct any_memory : test::fake_blas {
  any_memory() { allow(nullptr, std::numeric_limits<std::size_t>::max()); }
};

template <class S>
struct trial {
  using C = moue::compute_t<S>;
  gpu_type gpu;
  bench::single_layer<gpu_type, S> layer{gpu, tiny, {1, tiny.experts}, true};
  bench::layer_pass<gpu_type, S> pass{gpu, layer, tokens, moue::mode::training};
  bench::oracle<gpu_type, S> oracle{gpu, layer.weights, tiny};
  decltype(gpu.template make_array<S>(0)) x = gpu.template make_array<S>(size), y = gpu.template make_array<S>(size),
                                          dy = gpu.template make_array<S>(size), dx = gpu.template make_array<S>(size);

  trial() {
    const auto ops = gpu.operations(moue::matrix_view<C>{});
    bench::fill_normal(ops, rows(x), 2);
    bench::fill_normal(ops, rows(dy), 3);
    layer.gradients->reset();
  }
  static moue::matrix_view<S> rows(const auto& array) { return array.view(tokens, tiny.width); }
  bench::layer_run<S> run(const moue::routing<C>& routing) const {
    return {routing, rows(x), rows(y), rows(dy), rows(dx), &*layer.gradients, false};
  }
  /// By the pass, with the routing it found.
  bench::layer_run<S> run_pass() {
    pass.forward(rows(x), rows(y));
    pass.backward(rows(dy), rows(dx));
    auto result = run(pass.routing());
    result.router = true;
    return result;
  }
};

/// Rounding of a few numbers of the compute type, or of the storage type where they are narrow.
template <class S>
constexpr double tolerance = sizeof(S) == 2   ? 1e-2
                             : sizeof(S) == 4 ? 1e-5
                                              : 1e-12;

template <class S>
void check_baseline() {
  using Gradient = moue::compute_t<S>;
  trial<S> t;
  const bench::kept_routing<gpu_type, moue::compute_t<S>> routing(t.gpu, t.run_pass().routing);
  std::vector<std::vector<Gradient>> numbers;
  std::vector<Gradient*> places;
  for (const auto& info : *t.layer.model.layout())
    numbers.emplace_back(static_cast<std::size_t>(info.size()), Gradient(0));
  for (auto& tensor : numbers) places.push_back(tensor.data());
  const any_memory blas;
  const bench::baseline<gpu_type, any_memory, S> baseline(t.gpu, blas, tiny, t.layer.weights, places, routing.view());
  t.y.zero();
  t.dx.zero();
  baseline.forward(t.rows(t.x), t.rows(t.y));
  baseline.backward(t.rows(t.dy), t.rows(t.dx));
  for (moue::index_t i = 0; i < t.layer.model.layout()->tensors(); ++i)
    for (std::size_t j = 0; j < numbers[static_cast<std::size_t>(i)].size(); ++j)
      (*t.layer.gradients)[i].data[j] = static_cast<moue::compute_t<S>>(numbers[static_cast<std::size_t>(i)][j]);
  CHECK(t.oracle.error_of(t.run(routing.view())) < tolerance<S>);
}

}  // namespace

TEST_CASE_TEMPLATE("a pass agrees with the oracle", S, double, float, moue::bf16) {
  trial<S> t;
  const auto run = t.run_pass();
  CHECK(t.oracle.error_of(run) < tolerance<S>);
  CHECK(t.oracle.routing_error(run) < 1e-5);  // routers are computed in the compute type
}

TEST_CASE_TEMPLATE("experts with the same ids and gates agree with the oracle", S, float, moue::bf16) {
  trial<S> t;
  const bench::kept_routing<gpu_type, float> routing(t.gpu, t.run_pass().routing);
  bench::experts_run<gpu_type, S> experts(t.gpu, t.layer, routing.view());
  t.layer.gradients->reset();
  t.y.zero();
  t.dx.zero();
  experts.forward(t.rows(t.x), t.rows(t.y));
  experts.backward(t.rows(t.x), t.rows(t.dy), t.rows(t.dx));
  CHECK(t.oracle.error_of(t.run(routing.view())) < tolerance<S>);
}

TEST_CASE("products by cuBLAS agree with the oracle") {
  check_baseline<float>();
  check_baseline<moue::bf16>();
}

TEST_CASE("the oracle sees a wrong number of any kind") {
  const auto error_after = [](auto&& change) {
    trial<float> t;
    auto run = t.run_pass();
    change(t, run);
    return t.oracle.error_of(run);
  };
  const auto expert = [](auto& t, auto& run, int which) -> float& {
    auto& grads = *t.layer.gradients;
    return grads[grads.layout().expert_first(run.routing.expert[0]) + which](0, 0);
  };
  CHECK(error_after([](auto&, auto&) {}) < 1e-5);
  CHECK(error_after([](auto& t, auto&) { t.y.data()[3] += 0.1f; }) > 1e-3);
  CHECK(error_after([](auto& t, auto&) { t.y.data()[3] = std::nanf(""); }) > 1e30);
  CHECK(error_after([](auto& t, auto&) { t.dx.data()[3] += 0.1f; }) > 1e-3);
  CHECK(error_after([](auto&, auto& run) { run.router = false; }) > 1e-4);
  CHECK(error_after([&](auto& t, auto& run) { expert(t, run, 1) += 0.1f; }) > 1e-3);
  CHECK(error_after([&](auto& t, auto& run) { expert(t, run, 2) += 0.1f; }) > 1e-3);
  trial<float> t;
  const auto run = t.run_pass();
  const_cast<float&>(run.routing.gate[0]) += 0.1f;
  CHECK(t.oracle.routing_error(run) > 1e-2);
  const_cast<std::int32_t&>(run.routing.expert[0]) = (run.routing.expert[1] + 1) % 5;
  const_cast<std::int32_t&>(run.routing.expert[1]) = (run.routing.expert[1] + 2) % 5;
  CHECK(t.oracle.routing_error(run) > 1e-2);
}

TEST_CASE_TEMPLATE("every way to a product agrees with double, and is the one that was asked for", S, float,
                   moue::bf16) {
  const gpu_type gpu;
  for (const moue::index_t rows : {3, 130}) {
    const bench::grouped_products<gpu_type, S> products(gpu, tiny, rows);
    for (const auto product : {bench::product::linear, bench::product::transposed, bench::product::gradient})
      for (const auto& way : bench::ways(3)) {
        if (!bench::exists(product, way.name)) continue;
        CAPTURE(way.name);
        const auto& blas = gpu.runtime().blas_calls();
        const auto before = blas.calls;
        products.clear();
        CHECK(products.error(product) == doctest::Approx(1));  // nothing has been computed yet
        products.run(product, way.choice);
        CHECK(products.error(product) < tolerance<S>);
        CHECK((blas.calls > before) == (way.name == "cublas_loop"));
      }
  }
}

TEST_CASE("lines of results become tables, and what went wrong is told") {
  bench::result r{.chip = "H200", .type = "bf16", .shape = "olmoe", .experts = 64, .tokens = 16, .tolerance = 1e-2};
  std::stringstream file;
  const auto write = [&](const char* scope, const char* implementation, double us, double error = 1e-3) {
    r.scope = scope, r.implementation = implementation, r.eager_us = us, r.error = error;
    r.flops = 1e6, r.floor_us = 1;
    file << bench::to_line(r) << '\n';
  };
  write("experts_forward", "moue", 10);
  write("experts_forward", "cublas_loop", 25);
  write("product_linear", "chosen", 3);
  write("product_linear", "few_rows", 2);
  write("product_linear", "low_tiles", 1, std::nan(""));  // a wrong output is not the fastest
  file << bench::left_out << "mixtral\n";
  const auto text_of = [](std::istream& in, bool clean) {
    const bench::comparison table(bench::read_results(in));
    CHECK(table.clean() == clean);
    std::ostringstream out;
    table.write_text(out);
    table.write_markdown(out, {"noted"});
    return out.str();
  };
  const auto has = [](const std::string& text, const std::string& part) {
    CAPTURE(part);
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  const auto text = text_of(file, false);
  has(text, "never slower than a cuBLAS loop: met (lowest 2.50 at bf16 olmoe T=16 experts_forward)");
  has(text, "never slower than torch's grouped products: not measured");
  has(text, "bf16  olmoe  16    10.0      0.10    2.50        -           -         -       -        -");
  has(text, "- noted");
  has(text, "| few_rows | 1.50 |");
  has(text, "5 figures, of which 1 do not count");
  has(text, "left out: mixtral");

  std::stringstream fine(bench::to_line({.error = 0, .tolerance = 1}) + "\n"),
      broken(bench::failed + std::string("x\n"));
  text_of(fine, true);
  has(text_of(broken, false), "failed: x");
  std::stringstream torn("chip\tnothing\nbf16\tolmoe\n");
  CHECK_THROWS_AS(bench::read_results(torn), std::runtime_error);
}

TEST_CASE("the floor of a layer is that of the design") {
  const bench::chip h200{989e12, 4.8e12};
  const auto& olmoe = bench::shapes[1];
  const auto work = bench::forward_work(olmoe, 4096, 64, 2, false);
  CHECK(work.flops == doctest::Approx(412e9).epsilon(0.01));
  CHECK(work.floor_us(h200) == doctest::Approx(417).epsilon(0.01));
  CHECK(bench::forward_work(olmoe, 1, 8, 2, false).floor_us(h200) == doctest::Approx(21).epsilon(0.01));
}
