// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// One layer of each shape on a GPU: by this library, and what one writes with cuBLAS. Scopes:
//   experts_forward, experts_training   ids and gates given; for the library with dispatch, without it for the baselines
//   layer_forward, layer_training       a pass: router, dispatch, experts; in training the balancing loss and backward
// Training is forward and backward. Every output is compared with loops in double first.

#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "baseline.hpp"
#include "device.cuh"
#include "layer.hpp"
#include "moue/backend/cuda/cublas_calls.cuh"
#include "moue/cuda.cuh"
#include "oracle.hpp"

namespace {

using bench::index;
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

  void run(index tokens) {
    using pass_type = bench::layer_pass<moue::cuda, S>;
    const double numbers = static_cast<double>(tokens * shape_.width * 4) * sizeof(S);
    const double needed = numbers + static_cast<double>(pass_type::bytes(layer_, tokens, moue::mode::training));
    if (needed > 0.9 * bench::free_bytes()) {
      std::printf("%s T=%td needs %.0f GB beside its weights, which do not fit\n", std::string(shape_.name).c_str(),
                  tokens, needed * 1e-9);
      return;
    }
    const auto make = [&] { return gpu_.make_array<S>(tokens * shape_.width); };
    const auto x = make(), y = make(), dy = make(), dx = make();
    const auto rows = [&](const auto& array) { return array.view(tokens, shape_.width); };
    const auto ops = gpu_.operations(moue::matrix_view<C>{});
    bench::fill_normal(ops, rows(x), 2);
    bench::fill_normal(ops, rows(dy), 3);
    at_ = {rows(x), rows(y), rows(dy), rows(dx)};
    tokens_ = tokens;

    try {
      const auto routing = run_pass<pass_type>();
      attempt("moue", [&] { run_experts(routing.view()); });
      attempt("cublas_loop", [&] { run_baseline<C>(routing.view(), "cublas_loop", false); });
      attempt("cublas_grouped", [&] { run_baseline<S>(routing.view(), "cublas_grouped", true); });
    } catch (const moue::error& failure) {
      failed("moue", failure);
    }
  }

 private:
  struct places {
    moue::matrix_view<S> x, y, dy, dx;
  };

  void failed(const char* implementation, const moue::error& failure) const {
    std::printf("%s T=%td %s: %s\n", std::string(shape_.name).c_str(), tokens_, implementation, failure.what());
  }
  template <class F>
  void attempt(const char* implementation, const F& f) const {
    try {
      f();
    } catch (const moue::error& failure) {
      failed(implementation, failure);
    }
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

  bench::result line(const char* scope, const char* implementation, bool router, bool training, double scratch,
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
    bench::report(options_, bench::measure(gpu_.runtime().stream(), flush_, r, queue));
  }

  bench::layer_run<S> outputs(const moue::routing<C>& routing, bool training) const {
    bench::layer_run<S> run{routing, at_.x, at_.y, {}, {}, nullptr, false};
    if (training) run.dy = at_.dy, run.dx = at_.dx, run.grads = &*layer_.gradients;
    return run;
  }

  template <class PassT>
  bench::kept_routing<moue::cuda, C> run_pass() {
    {
      PassT pass(gpu_, layer_, tokens_, moue::mode::inference);
      const auto forward = [&] { pass.forward(at_.x, at_.y); };
      forward();
      hit_ = experts_hit(pass.routing());
      const auto given = outputs(pass.routing(), false);
      const double error = std::max(oracle_.error_of(given), oracle_.routing_error(given));
      time(line("layer_forward", "moue", true, false, PassT::bytes(layer_, tokens_, moue::mode::inference), error),
           forward);
    }
    PassT pass(gpu_, layer_, tokens_, moue::mode::training);
    layer_.gradients->zero();
    pass.forward(at_.x, at_.y);
    pass.backward(at_.dy, at_.dx);  // without the balancing loss, which the oracle does not know
    auto given = outputs(pass.routing(), true);
    given.router = true;
    time(line("layer_training", "moue", true, true, PassT::bytes(layer_, tokens_, moue::mode::training),
              oracle_.error_of(given)),
         [&] {
           pass.forward(at_.x, at_.y);
           pass.balance();
           pass.backward(at_.dy, at_.dx);
         });
    return {gpu_, pass.routing()};
  }

  void run_experts(const moue::routing<C>& routing) {
    bench::experts_run<moue::cuda, S> experts(gpu_, layer_, routing);
    const double scratch = static_cast<double>(experts.bytes(layer_, tokens_, routing.entries()));
    measure_both("moue", scratch, routing, [&] { experts.forward(at_.x, at_.y); },
                 [&] { experts.backward(at_.x, at_.dy, at_.dx); }, [] {});
  }

  template <class Gradient>
  void run_baseline(const moue::routing<C>& routing, const char* implementation, bool grouped) {
    using type = bench::baseline<moue::cuda, blas_type, S, Gradient>;
    std::vector<Gradient*> places;
    std::unique_ptr<decltype(gpu_.template make_parameters<Gradient>(nullptr))> narrow;
    if constexpr (!std::is_same_v<Gradient, C>)
      narrow = std::make_unique<typename decltype(narrow)::element_type>(
          gpu_.template make_parameters<Gradient>(layer_.model.layout()));
    for (index i = 0; i < layer_.model.layout()->tensors(); ++i)
      if constexpr (std::is_same_v<Gradient, C>)
        places.push_back((*layer_.gradients)[i].data);
      else
        places.push_back((*narrow)[i].data);
    const type run(gpu_, gpu_.runtime().blas(), shape_, layer_.weights, places, routing, grouped);
    const auto collect = [&] {
      if constexpr (!std::is_same_v<Gradient, C>)
        for (index i = 0; i < layer_.model.layout()->tensors(); ++i) {
          const auto to = (*layer_.gradients)[i];
          gpu_.operations(moue::matrix_view<C>{})
              .each_element(to.rows, to.cols, moue::detail::convert_element<Gradient, C>{(*narrow)[i], to});
        }
    };
    measure_both(
        implementation, type::bytes(shape_, routing.entries(), true), routing, [&] { run.forward(at_.x, at_.y); },
        [&] { run.backward(at_.dy, at_.dx); }, collect);
  }

  /// `collect` brings weight gradients to where the oracle looks for them.
  template <class Forward, class Backward, class Collect>
  void measure_both(const char* implementation, double scratch, const moue::routing<C>& routing, const Forward& forward,
                    const Backward& backward, const Collect& collect) {
    layer_.gradients->zero();
    forward();
    backward();
    collect();
    const double forward_error = oracle_.error_of(outputs(routing, false));
    const double error = oracle_.error_of(outputs(routing, true));
    time(line("experts_forward", implementation, false, false, scratch, forward_error), forward);
    time(line("experts_training", implementation, false, true, scratch, error), [&] {
      forward();
      backward();
    });
  }

  index experts_hit(const moue::routing<C>& routing) const {
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
  index tokens_ = 0, hit_ = 0;
};

template <class S>
void run_all(const bench::options& o) {
  for (const auto& s : bench::shapes) {
    if (!o.wants(s.name)) continue;
    measurements<S> layer(o, s);
    for (const index tokens : o.tokens) layer.run(tokens);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto options = bench::read_options(argc, argv);
    if (!bench::find_device()) return bench::no_device;
    options.type == "float" ? run_all<float>(options) : run_all<moue::bf16>(options);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}
