// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Eight layers with residuals on a GPU: over one ring of universal experts of which each layer reaches half, and over
// experts of each layer's own, as many as a window has. Candidates, selected experts and arithmetic are the same; the
// universal layers have a quarter of the weights. Forward outputs of the first and the last layer are compared with loops
// in double; layer.cu compares gradients.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "device.cuh"
#include "layer.hpp"
#include "moue/cuda.cuh"
#include "oracle.hpp"

namespace {

using bench::index;
constexpr index layers = 8;

template <class S>
struct add_to {
  using C = moue::compute_t<S>;
  moue::matrix_view<const S> y;
  moue::matrix_view<S> x;
  MOUE_HD void operator()(index i, index j) const { x(i, j) = S(static_cast<C>(x(i, j)) + static_cast<C>(y(i, j))); }
};

moue::staggered_rotation universal(const bench::shape& s) {
  return {.depth = layers, .pool = s.experts, .window = s.experts / 2, .stride = std::max<index>(1, s.experts / 8)};
}
moue::layer_local separate(const bench::shape& s) { return {layers, s.experts / 2}; }

template <class S>
class measurements {
  using C = moue::compute_t<S>;

 public:
  measurements(const bench::options& o, const bench::shape& s)
      : options_(o), name_(bench::device_name()), chip_(bench::chip_of(o, name_)), flush_(o.cold), shape_(fitting(s)) {}

  void run(index tokens) {
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
  void run(const char* implementation, const TopologyT& topology, index tokens) {
    try {
      bench::depth<moue::cuda, S, TopologyT> depth(gpu_, shape_, topology, true);
      for (const bool training : {false, true}) measure(implementation, depth, tokens, training);
    } catch (const moue::error& failure) {
      std::printf("%s T=%td %s: %s\n", std::string(shape_.name).c_str(), tokens, implementation, failure.what());
    }
  }

  void measure(const char* implementation, auto& depth, index tokens, bool training) {
    const moue::pass_options how{.tokens = tokens, .how = training ? moue::mode::training : moue::mode::inference};
    const auto bytes = depth.model.template workspace_bytes<S>(how);
    auto scratch = gpu_.make_workspace(bytes);
    auto pass = depth.model.start(depth.weights_view(), how, scratch);
    const auto make = [&] { return gpu_.make_array<S>(tokens * shape_.width); };
    const auto input = make(), x_rows = make(), y_rows = make();
    const auto view = [&](const auto& array) { return array.view(tokens, shape_.width); };
    const auto x = view(x_rows), y = view(y_rows);
    const auto ops = gpu_.operations(moue::matrix_view<C>{});
    bench::fill_normal(ops, view(input), 2);

    const bench::oracle<moue::cuda, S> oracle(gpu_, depth.weights, shape_);
    bench::work work;
    double error = 0;
    const auto forward = [&](bool checked) {
      gpu_.runtime().copy(input.data(), x.data, static_cast<std::size_t>(tokens * shape_.width) * sizeof(S));
      pass.begin(tokens);
      for (index layer = 0; layer < layers; ++layer) {
        pass.forward(layer, x, y);
        if (checked) {
          const auto routing = pass.assignments(layer);
          if (layer == 0 || layer == layers - 1)
            error = std::max(error, oracle.error_of({routing, x, y, {}, {}, nullptr, false}));
          work = work + work_of(routing, depth.model.experts(), tokens, training);
        }
        ops.each_element(tokens, shape_.width, add_to<S>{y, x});
      }
    };
    forward(true);
    const bench::result line{.chip = name_,
                             .type = options_.type,
                             .shape = std::string(shape_.name),
                             .experts = depth.model.experts(),
                             .tokens = tokens,
                             .scope = training ? "stack_training" : "stack_forward",
                             .implementation = implementation,
                             .flops = work.flops,
                             .floor_us = work.floor_us(chip_),
                             .scratch_bytes = static_cast<double>(bytes),
                             .error = error,
                             .tolerance = bench::tolerance<S>};
    bench::report(options_, bench::measure(gpu_.runtime().stream(), flush_, line, [&] {
                    forward(false);
                    if (!training) return;
                    pass.queue_balance();
                    for (index layer = layers; layer-- > 0;) {
                      pass.backward(layer, x, y, *depth.gradients);  // the output stands for its own gradient
                      ops.each_element(tokens, shape_.width, add_to<S>{y, x});
                    }
                  }));
  }

  bench::work work_of(const moue::routing<C>& routing, index experts, index tokens, bool training) const {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(routing.entries()));
    gpu_.download(routing.expert.data, std::span(ids));
    std::vector<bool> found(static_cast<std::size_t>(experts));
    for (const auto id : ids) found[static_cast<std::size_t>(id)] = true;
    const index hit = std::count(found.begin(), found.end(), true);
    auto layer = shape_;
    layer.experts /= 2;  // candidates of the router
    const auto forward = bench::forward_work(layer, tokens, hit, sizeof(S), true);
    return training ? forward + bench::backward_work(layer, tokens, hit, sizeof(S), sizeof(C), true) : forward;
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
  for (const auto& s : bench::shapes) {
    if (!o.wants(s.name)) continue;
    measurements<S> stack(o, s);
    for (const index tokens : o.tokens) stack.run(tokens);
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
