// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Eight layers with residuals on a GPU: over one ring of universal experts of which each layer reaches half, and over
// experts of each layer's own, as many as a window has. Candidates, selected experts and arithmetic are the same; the
// universal layers have a quarter of the weights. The private experts by cuBLAS as well, with the ids and gates that the
// routers found and without routers. Forward outputs of the first and the last layer are compared with loops in double;
// layer.cu compares gradients.

#include <algorithm>
#include <memory>
#include <span>
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
constexpr index_t layers = 8;

template <class S>
struct add_to {
  using C = moue::compute_t<S>;
  moue::matrix_view<const S> y;
  moue::matrix_view<S> x;
  MOUE_HD void operator()(index_t i, index_t j) const {
    x(i, j) = S(static_cast<C>(x(i, j)) + static_cast<C>(y(i, j)));
  }
};

moue::staggered_rotation universal(const bench::shape& s) {
  return {.depth = layers, .pool = s.experts, .window = s.experts / 2, .stride = std::max<index_t>(1, s.experts / 8)};
}
moue::layer_local separate(const bench::shape& s) { return {layers, s.experts / 2}; }

template <class S>
class measurements {
  using C = moue::compute_t<S>;

 public:
  measurements(const bench::options& o, const bench::shape& s)
      : options_(o), name_(bench::device_name()), chip_(bench::chip_of(o, name_)), flush_(o.cold), shape_(fitting(s)) {}

  void run(index_t tokens) {
    run("universal", universal(shape_), tokens);
    run("private", separate(shape_), tokens);
  }

 private:
  bench::shape fitting(bench::shape s) const {
    using type = bench::depth<moue::cuda, S, moue::layer_local>;
    while (s.experts / 2 > s.k && type::bytes(s, layers * s.experts / 2, true) > 0.7 * bench::free_bytes())
      s.experts /= 2;
    return s;
  }

  template <class TopologyT>
  void run(const char* implementation, const TopologyT& topology, index_t tokens) {
    const auto what = [&](bool training, const std::string& name) {
      return options_.type + " " + std::string(shape_.name) + " T=" + std::to_string(tokens) + " stack of " + name +
             (training ? ", training" : "");
    };
    bench::attempt(options_, what(false, implementation), 0, [&] {
      bench::depth<moue::cuda, S, TopologyT> depth(gpu_, shape_, topology, true);
      for (const bool training : {false, true}) {
        const auto bytes = [&] {
          return static_cast<double>(depth.model.template workspace_bytes<S>(options_of(tokens, training))) +
                 rows_bytes(tokens);
        };
        std::vector<bench::kept_routing<moue::cuda, C>> routings;
        bench::attempt(options_, what(training, implementation), bytes(),
                       [&] { measure(implementation, depth, tokens, training, routings); });
        if constexpr (std::is_same_v<TopologyT, moue::layer_local>)
          if (routings.size() == layers)
            bench::attempt(options_, what(training, "cublas_loop"), baseline_bytes(tokens, training),
                           [&] { measure_baseline(depth, tokens, training, routings); });
      }
    });
  }

  static moue::pass_options options_of(index_t tokens, bool training) {
    return {.tokens = tokens, .how = training ? moue::mode::training : moue::mode::inference};
  }
  double rows_bytes(index_t tokens) const { return 3.0 * static_cast<double>(tokens * shape_.width) * sizeof(S); }
  double baseline_bytes(index_t tokens, bool training) const {
    using type = bench::baseline<moue::cuda, blas_type, S>;
    return layers * type::bytes(shape_, tokens * shape_.k, training) + rows_bytes(tokens);
  }

  /// Rows of a batch: the input, which stays, those between layers, and what a layer gives.
  struct batch {
    moue::device_array<S, moue::cuda_runtime> input_rows, x_rows, y_rows;
    moue::matrix_view<S> input, x, y;
  };
  batch make_batch(index_t tokens) const {
    const auto make = [&] { return gpu_.make_array<S>(tokens * shape_.width); };
    batch b{make(), make(), make(), {}, {}, {}};
    b.input = b.input_rows.view(tokens, shape_.width);
    b.x = b.x_rows.view(tokens, shape_.width);
    b.y = b.y_rows.view(tokens, shape_.width);
    bench::fill_normal(gpu_.operations(moue::matrix_view<C>{}), b.input, 2);
    return b;
  }
  void begin(const batch& b) const {
    gpu_.runtime().copy(b.input.data, b.x.data, static_cast<std::size_t>(b.x.rows * b.x.cols) * sizeof(S));
  }
  void add(const batch& b) const {
    gpu_.operations(moue::matrix_view<C>{}).each_element(b.x.rows, b.x.cols, add_to<S>{b.y, b.x});
  }

  bench::result line(const char* implementation, bool training, index_t experts, index_t tokens,
                     const bench::work& work, double scratch, double error) const {
    return {.chip = name_,
            .type = options_.type,
            .shape = std::string(shape_.name),
            .experts = experts,
            .tokens = tokens,
            .scope = training ? "stack_training" : "stack_forward",
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
  static bool is_checked(index_t layer) { return layer == 0 || layer == layers - 1; }

  /// Leaves the routings of all layers.
  void measure(const char* implementation, auto& depth, index_t tokens, bool training,
               std::vector<bench::kept_routing<moue::cuda, C>>& routings) {
    const auto how = options_of(tokens, training);
    const auto bytes = depth.model.template workspace_bytes<S>(how);
    auto scratch = gpu_.make_workspace(bytes);
    auto pass = depth.model.start(depth.weights_view(), how, scratch);
    const batch b = make_batch(tokens);
    const bench::oracle<moue::cuda, S> oracle(gpu_, depth.weights, shape_);
    bench::work work;
    double error = 0;
    const auto forward = [&](bool first) {
      begin(b);
      pass.begin(tokens);
      for (index_t layer = 0; layer < layers; ++layer) {
        pass.forward(layer, b.x, b.y);
        if (first) {
          const auto routing = pass.assignments(layer);
          routings.emplace_back(gpu_, routing);
          if (is_checked(layer)) error = std::max(error, oracle.error_of({routing, b.x, b.y, {}, {}, nullptr, false}));
          work = work + work_of(routing, depth.model.experts(), tokens, training, true);
        }
        add(b);
      }
    };
    forward(true);
    time(line(implementation, training, depth.model.experts(), tokens, work, static_cast<double>(bytes), error), [&] {
      forward(false);
      if (!training) return;
      pass.queue_balance();
      pass.arm();
      for (index_t layer = layers; layer-- > 0;) {
        pass.backward(layer, b.x, b.y, *depth.gradients);  // the output stands for its own gradient
        add(b);
      }
    });
  }

  void measure_baseline(auto& depth, index_t tokens, bool training,
                        const std::vector<bench::kept_routing<moue::cuda, C>>& routings) {
    using type = bench::baseline<moue::cuda, blas_type, S>;
    const auto gradients = training ? bench::places_of<C>(*depth.gradients) : std::vector<C*>();
    auto all_experts = shape_;
    all_experts.experts = depth.model.experts();
    std::vector<std::unique_ptr<type>> runs;
    for (const auto& routing : routings)
      runs.push_back(
          std::make_unique<type>(gpu_, gpu_.runtime().blas(), all_experts, depth.weights, gradients, routing.view()));
    const batch b = make_batch(tokens);
    const bench::oracle<moue::cuda, S> oracle(gpu_, depth.weights, shape_);
    bench::work work;
    double error = 0;
    const auto forward = [&](bool first) {
      begin(b);
      for (index_t layer = 0; layer < layers; ++layer) {
        const auto at = static_cast<std::size_t>(layer);
        runs[at]->forward(b.x, b.y);
        if (first) {
          const auto routing = routings[at].view();
          if (is_checked(layer)) error = std::max(error, oracle.error_of({routing, b.x, b.y, {}, {}, nullptr, false}));
          work = work + work_of(routing, depth.model.experts(), tokens, training, false);
        }
        add(b);
      }
    };
    forward(true);
    const double scratch = layers * type::bytes(shape_, tokens * shape_.k, training);
    time(line("cublas_loop", training, depth.model.experts(), tokens, work, scratch, error), [&] {
      forward(false);
      if (!training) return;
      for (index_t layer = layers; layer-- > 0;) {
        runs[static_cast<std::size_t>(layer)]->backward(b.x, b.y);
        add(b);
      }
    });
  }

  bench::work work_of(const moue::routing<C>& routing, index_t experts, index_t tokens, bool training,
                      bool router) const {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(routing.entries()));
    gpu_.download(routing.expert.data, std::span(ids));
    std::vector<bool> found(static_cast<std::size_t>(experts));
    for (const auto id : ids) found[static_cast<std::size_t>(id)] = true;
    const index_t hit = std::count(found.begin(), found.end(), true);
    auto layer = shape_;
    layer.experts /= 2;  // candidates of the router
    const auto forward = bench::forward_work(layer, tokens, hit, sizeof(S), router);
    return training ? forward + bench::backward_work(layer, tokens, hit, sizeof(S), sizeof(C), router) : forward;
  }

  bench::options options_;
  std::string name_;
  bench::chip chip_;
  bench::cache_flush flush_;
  moue::cuda gpu_;
  bench::shape shape_;
};

template <class S>
void run_all(const bench::options& o) {
  for (const auto& s : bench::shapes)
    if (o.wants(s.name))
      bench::attempt(o, o.type + " " + std::string(s.name) + " stack", 0, [&] {
        measurements<S> stack(o, s);
        for (const index_t tokens : o.tokens_or(bench::token_counts)) stack.run(tokens);
      });
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_program(
      argc, argv, [](const bench::options& o) { o.type == "float" ? run_all<float>(o) : run_all<moue::bf16>(o); });
}
