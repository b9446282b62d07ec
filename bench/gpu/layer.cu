// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// One layer of each shape on a GPU: by this library, and what one writes with cuBLAS. Scopes:
//   experts_forward, experts_training   ids and gates given; for the library with dispatch, without it for the baselines
//   layer_forward, layer_training       a pass: router, dispatch, experts; in training the balancing loss and backward
// Training is forward and backward. Every output is compared with loops in double first.

#include <algorithm>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "baseline.hpp"
#include "device.cuh"
#include "layer.hpp"
#include "moue/backend/cuda/cublas_calls.cuh"
#include "moue/cuda.cuh"
#include "oracle.hpp"

namespace {

using bench::index_t;
using blas_type = moue::detail::gpu::cublas_calls;

template <class S>
class measurements {
  using C = moue::compute_t<S>;
  using layer_type = bench::single_layer<moue::cuda, S>;

 public:
  measurements(const bench::options& o, const bench::shape& s)
      : options_(o),
        name_(bench::device_name()),
        chip_(bench::chip_of(o, name_)),
        flush_(o.cold),
        shape_(fitting(gpu_, s)),
        layer_(gpu_, shape_, {1, shape_.experts}, true),
        oracle_(gpu_, layer_.weights, shape_) {}

  void run(index_t tokens) {
    tokens_ = tokens;
    const double rows_bytes = static_cast<double>(tokens * shape_.width * 4) * sizeof(S);
    if (rows_bytes > 0.5 * bench::free_bytes())
      return bench::report_missing(options_, bench::left_out, what("moue"), "its rows do not fit");
    const auto make = [&] { return gpu_.make_array<S>(tokens * shape_.width); };
    const auto x = make(), y = make(), dy = make(), dx = make();
    const auto rows = [&](const auto& array) { return array.view(tokens, shape_.width); };
    const auto ops = gpu_.operations(moue::matrix_view<C>{});
    bench::fill_normal(ops, rows(x), 2);
    bench::fill_normal(ops, rows(dy), 3);
    at_ = {rows(x), rows(y), rows(dy), rows(dx)};

    std::optional<bench::kept_routing<moue::cuda, C>> routing;
    bench::attempt(options_, what("moue, a pass"),
                   static_cast<double>(pass_type::bytes(layer_, tokens, moue::mode::training)),
                   [&] { run_pass(routing); });
    if (!routing) return;
    const index_t entries = tokens * shape_.k;
    bench::attempt(options_, what("moue, experts"), static_cast<double>(experts_type::bytes(layer_, tokens, entries)),
                   [&] { run_experts(routing->view()); });
    const double wide = bench::baseline<moue::cuda, blas_type, S>::bytes(shape_, entries, true);
    bench::attempt(options_, what("cublas_loop"), wide, [&] { run_baseline(routing->view()); });
  }

 private:
  using pass_type = bench::layer_pass<moue::cuda, S>;
  using experts_type = bench::experts_run<moue::cuda, S>;
  struct places {
    moue::matrix_view<S> x, y, dy, dx;
  };

  std::string what(const char* implementation) const {
    return options_.type + " " + std::string(shape_.name) + " T=" + std::to_string(tokens_) + " " + implementation;
  }

  /// With half of the experts again and again until the layer fits with 4096 tokens.
  static bench::shape fitting(const moue::cuda& gpu, bench::shape s) {
    const auto needed = [&] {
      const moue::mixture model{moue::swiglu{.width = s.width, .hidden = s.hidden}, moue::layer_local{1, s.experts},
                                moue::linear_router(s.k), moue::switch_loss{}, gpu};
      return layer_type::bytes(s, s.experts, true) +
             static_cast<double>(model.template workspace_bytes<S>({.tokens = 4096}));
    };
    while (s.experts > s.k && needed() > 0.85 * bench::free_bytes()) s.experts /= 2;
    return s;
  }

  bench::result line(const char* scope, const std::string& implementation, bool router, bool training, double scratch,
                     double error) const {
    auto work = bench::forward_work(shape_, tokens_, hit_, sizeof(S), router);
    if (training) work = work + bench::backward_work(shape_, tokens_, hit_, sizeof(S), sizeof(C), router);
    return {.chip = name_,
            .type = options_.type,
            .shape = std::string(shape_.name),
            .experts = shape_.experts,
            .tokens = tokens_,
            .scope = scope,
            .implementation = implementation,
            .flops = work.flops,
            .floor_us = work.floor_us(chip_),
            .scratch_bytes = scratch,
            .error = error,
            .tolerance = bench::tolerance<S>};
  }
  template <class F>
  void time(const bench::result& r, const F& queue) const {
    bench::report(options_, bench::measure(options_, gpu_.runtime().stream(), flush_, r, queue));
  }

  bench::layer_run<S> outputs(const moue::routing<C>& routing, bool training) const {
    bench::layer_run<S> run{routing, at_.x, at_.y, {}, {}, nullptr, false};
    if (training) run.dy = at_.dy, run.dx = at_.dx, run.grads = &*layer_.gradients;
    return run;
  }

  /// Leaves the routing that it found, as soon as there is one.
  void run_pass(std::optional<bench::kept_routing<moue::cuda, C>>& routing) {
    {
      pass_type pass(gpu_, layer_, tokens_, moue::mode::inference);
      const auto forward = [&] { pass.forward(at_.x, at_.y); };
      forward();
      routing.emplace(gpu_, pass.routing());
      hit_ = experts_hit(pass.routing());
      const auto given = outputs(pass.routing(), false);
      const double error = std::max(oracle_.error_of(given), oracle_.routing_error(given));
      time(line("layer_forward", "moue", true, false, pass_type::bytes(layer_, tokens_, moue::mode::inference), error),
           forward);
    }
    pass_type pass(gpu_, layer_, tokens_, moue::mode::training);
    layer_.gradients->reset();
    pass.forward(at_.x, at_.y);
    pass.backward(at_.dy, at_.dx);  // without the balancing loss, which the oracle does not know
    auto given = outputs(pass.routing(), true);
    given.router = true;
    time(line("layer_training", "moue", true, true, pass_type::bytes(layer_, tokens_, moue::mode::training),
              oracle_.error_of(given)),
         [&] {
           pass.forward(at_.x, at_.y);
           pass.balance();
           pass.backward(at_.dy, at_.dx);
         });
  }

  void run_experts(const moue::routing<C>& routing) {
    experts_type experts(gpu_, layer_, routing);
    const double scratch = static_cast<double>(experts.bytes(layer_, tokens_, routing.entries()));
    measure_both(
        "moue", scratch, routing, [&] { experts.forward(at_.x, at_.y); },
        [&] { experts.backward(at_.x, at_.dy, at_.dx); });
  }

  void run_baseline(const moue::routing<C>& routing) {
    using type = bench::baseline<moue::cuda, blas_type, S>;
    const type run(gpu_, gpu_.runtime().blas(), shape_, layer_.weights, bench::places_of<C>(*layer_.gradients),
                   routing);
    measure_both(
        "cublas_loop", type::bytes(shape_, routing.entries(), true), routing, [&] { run.forward(at_.x, at_.y); },
        [&] { run.backward(at_.dy, at_.dx); });
  }

  template <class Forward, class Backward>
  void measure_both(const std::string& implementation, double scratch, const moue::routing<C>& routing,
                    const Forward& forward, const Backward& backward) {
    layer_.gradients->reset();
    forward();
    backward();
    const double forward_error = oracle_.error_of(outputs(routing, false));
    const double error = oracle_.error_of(outputs(routing, true));
    time(line("experts_forward", implementation, false, false, scratch, forward_error), forward);
    time(line("experts_training", implementation, false, true, scratch, error), [&] {
      forward();
      backward();
    });
  }

  index_t experts_hit(const moue::routing<C>& routing) const {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(routing.entries()));
    gpu_.download(routing.expert.data, std::span(ids));
    std::vector<bool> hit(static_cast<std::size_t>(shape_.experts));
    for (const auto id : ids) hit[static_cast<std::size_t>(id)] = true;
    return std::count(hit.begin(), hit.end(), true);
  }

  bench::options options_;
  std::string name_;
  bench::chip chip_;
  bench::cache_flush flush_;
  moue::cuda gpu_;
  bench::shape shape_;
  layer_type layer_;
  bench::oracle<moue::cuda, S> oracle_;
  places at_;
  index_t tokens_ = 0, hit_ = 0;
};

template <class S>
void run_all(const bench::options& o) {
  for (const auto& s : bench::shapes)
    if (o.wants(s.name))
      bench::attempt(o, o.type + " " + std::string(s.name), 0, [&] {
        measurements<S> layer(o, s);
        for (const index_t tokens : o.tokens_or(bench::token_counts)) layer.run(tokens);
      });
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_program(
      argc, argv, [](const bench::options& o) { o.type == "float" ? run_all<float>(o) : run_all<moue::bf16>(o); });
}
