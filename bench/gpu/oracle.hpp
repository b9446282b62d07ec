// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A layer's results recomputed in double at a few tokens, by loops that share nothing with the products of the library. A
// figure counts only if its output agrees with these.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "moue/parameter.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"
#include "shapes.hpp"

namespace bench {

/// max |a - b| / max |b|; infinite if a number is not finite.
inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double off = std::abs(a[i] - b[i]);
    error = std::isfinite(off) ? std::max(error, off) : std::numeric_limits<double>::infinity();
    scale = std::max(scale, std::abs(b[i]));
  }
  return scale > 0 ? error / scale : error;
}

/// What the functors below look things up in; all of it lies on the device.
template <class S>
struct oracle_input {
  using C = moue::compute_t<S>;
  moue::routing<C> routing;
  moue::vector_view<const index_t> tokens;  // the sampled ones
  S* const* weights;                        // [3 experts]: gate, up, down of each
  const S* router;                          // [experts, width]
  moue::matrix_view<const S> x;
  moue::matrix_view<const S> dy;
  index_t hidden, k;

  MOUE_HD index_t entry(index_t place) const { return routing.offsets[tokens[place / k]] + place % k; }
  MOUE_HD index_t token(index_t place) const { return tokens[place / k]; }
  MOUE_HD moue::matrix_view<const S> gate(index_t entry) const { return tensor(entry, 0, hidden, x.cols); }
  MOUE_HD moue::matrix_view<const S> up(index_t entry) const { return tensor(entry, 1, hidden, x.cols); }
  MOUE_HD moue::matrix_view<const S> down(index_t entry) const { return tensor(entry, 2, x.cols, hidden); }
  MOUE_HD moue::matrix_view<const S> tensor(index_t entry, index_t which, index_t rows, index_t cols) const {
    return {weights[3 * routing.expert[entry] + which], rows, cols};
  }
  MOUE_HD static double wide(S v) { return static_cast<double>(static_cast<C>(v)); }
};

/// A hidden unit of an expert at a token: both products, the activation, and what flows back.
struct hidden_unit {
  double gate = 0, up = 0;  // w x
  double back = 0;  // the gradient of the expert's output times the weights down, without the gate of the routing

  MOUE_HD double sigmoid() const { return 1 / (1 + std::exp(-gate)); }
  MOUE_HD double value() const { return gate * sigmoid() * up; }
  MOUE_HD double dgate() const { return back * up * sigmoid() * (1 + gate * (1 - sigmoid())); }
  MOUE_HD double dup() const { return back * gate * sigmoid(); }
};

template <class S>
MOUE_HD hidden_unit compute_unit(const oracle_input<S>& in, index_t entry, index_t token, index_t h) {
  hidden_unit unit;
  const auto gate = in.gate(entry), up = in.up(entry), down = in.down(entry);
  for (index_t j = 0; j < in.x.cols; ++j) {
    const double x = in.wide(in.x(token, j));
    unit.gate += in.wide(gate(h, j)) * x;
    unit.up += in.wide(up(h, j)) * x;
    if (in.dy.data != nullptr) unit.back += in.wide(down(j, h)) * in.wide(in.dy(token, j));
  }
  return unit;
}

template <class S>
struct find_units {
  oracle_input<S> in;
  moue::matrix_view<hidden_unit> units;  // [samples k, hidden]
  MOUE_HD void operator()(index_t place, index_t h) const {
    units(place, h) = compute_unit(in, in.entry(place), in.token(place), h);
  }
};

template <class S>
struct find_output {
  oracle_input<S> in;
  moue::matrix_view<const hidden_unit> units;
  moue::matrix_view<double> y;  // [samples, width]
  MOUE_HD void operator()(index_t sample, index_t j) const {
    double sum = 0;
    for (index_t place = sample * in.k; place < (sample + 1) * in.k; ++place) {
      const index_t entry = in.entry(place);
      const auto down = in.down(entry);
      double part = 0;
      for (index_t h = 0; h < in.hidden; ++h) part += in.wide(down(j, h)) * units(place, h).value();
      sum += static_cast<double>(in.routing.gate[entry]) * part;
    }
    y(sample, j) = sum;
  }
};

/// The gradient of a gate is <dy, expert(x)> = the hidden units times what flows back to them.
template <class S>
struct find_gate_gradient {
  oracle_input<S> in;
  moue::matrix_view<const hidden_unit> units;
  moue::matrix_view<double> dgate;  // [samples, k]
  MOUE_HD void operator()(index_t sample, index_t column) const {
    double sum = 0;
    for (index_t h = 0; h < in.hidden; ++h)
      sum += units(sample * in.k + column, h).value() * units(sample * in.k + column, h).back;
    dgate(sample, column) = sum;
  }
};

/// With a router, its part as well: gates are the softmax of the selected logits.
template <class S>
struct find_input_gradient {
  oracle_input<S> in;
  moue::matrix_view<const hidden_unit> units;
  moue::matrix_view<const double> dgate;
  moue::matrix_view<double> dx;  // [samples, width]
  MOUE_HD void operator()(index_t sample, index_t j) const {
    double sum = 0, mean = 0;
    for (index_t column = 0; column < in.k; ++column) mean += gate(sample, column) * dgate(sample, column);
    for (index_t column = 0; column < in.k; ++column) {
      const index_t place = sample * in.k + column, entry = in.entry(place);
      const auto gates = in.gate(entry), ups = in.up(entry);
      double part = 0;
      for (index_t h = 0; h < in.hidden; ++h)
        part += in.wide(gates(h, j)) * units(place, h).dgate() + in.wide(ups(h, j)) * units(place, h).dup();
      sum += gate(sample, column) * part;
      if (in.router != nullptr)
        sum += gate(sample, column) * (dgate(sample, column) - mean) *
               in.wide(in.router[in.routing.expert[entry] * in.x.cols + j]);
    }
    dx(sample, j) = sum;
  }
  MOUE_HD double gate(index_t sample, index_t column) const {
    return static_cast<double>(in.routing.gate[in.entry(sample * in.k + column)]);
  }
};

/// Sampled elements of the gradients of one expert, from all of its rows.
template <class S>
struct find_weight_gradient {
  oracle_input<S> in;
  moue::vector_view<const index_t> entries;  // the expert's
  index_t hidden_step, width_step;
  moue::matrix_view<double> up;                // [hidden samples, width samples]
  moue::matrix_view<double> down;              // [hidden samples, width samples], of down transposed
  moue::matrix_view<const hidden_unit> units;  // [rows, hidden samples]
  MOUE_HD void operator()(index_t i, index_t j) const {
    double dup = 0, ddown = 0;
    for (index_t r = 0; r < entries.size; ++r) {
      const index_t token = entries[r] / in.k;
      const double gate = static_cast<double>(in.routing.gate[entries[r]]);
      dup += gate * units(r, i).dup() * in.wide(in.x(token, j * width_step));
      ddown += gate * units(r, i).value() * in.wide(in.dy(token, j * width_step));
    }
    up(i, j) = dup;
    down(i, j) = ddown;
  }
};
template <class S>
struct find_row_units {
  oracle_input<S> in;
  moue::vector_view<const index_t> entries;
  index_t hidden_step;
  moue::matrix_view<hidden_unit> units;
  MOUE_HD void operator()(index_t r, index_t i) const {
    units(r, i) = compute_unit(in, entries[r], entries[r] / in.k, i * hidden_step);
  }
};

/// What a run gave, on the device; without data what it did not compute.
template <class S>
struct layer_run {
  using C = moue::compute_t<S>;
  moue::routing<C> routing;  // every token has k entries
  moue::matrix_view<const S> x, y, dy, dx;
  const moue::gradients<C>* grads = nullptr;
  bool router = false;  // whether dx has the router's part
};

/// The worst disagreement of a run with loops in double.
template <class GpuT, class S>
class oracle {
  using C = moue::compute_t<S>;

 public:
  oracle(const GpuT& gpu, const moue::parameters<S>& weights, const shape& s)
      : gpu_(gpu), weights_(&weights), shape_(s), table_(gpu.template make_array<S*>(3 * weights.layout().experts())) {
    std::vector<S*> addresses;
    for (index_t e = 0; e < weights.layout().experts(); ++e)
      for (index_t which = 0; which < 3; ++which)
        addresses.push_back(const_cast<S*>(weights[weights.layout().expert_first(e) + which].data));
    table_.upload(addresses);
  }

  double error_of(const layer_run<S>& run) const {
    const index_t tokens = run.routing.tokens(), samples = std::min<index_t>(tokens, 8);
    std::vector<index_t> sampled;
    for (index_t i = 0; i < samples; ++i) sampled.push_back(i * tokens / samples);
    const auto places = array<index_t>(samples);
    places.upload(sampled);
    oracle_input<S> in{run.routing, places.view(), table_.data(), nullptr, run.x, run.dy, shape_.hidden, shape_.k};
    if (run.router) in.router = (*weights_)[weights_->layout().router(0, 0)].data;

    const auto ops = gpu_.operations(moue::matrix_view<C>{});
    const index_t rows = samples * shape_.k;
    const auto units = array<hidden_unit>(rows * shape_.hidden);
    const auto expected = array<double>(samples * shape_.width), dgate = array<double>(rows);
    const moue::matrix_view<const hidden_unit> found = units.view(rows, shape_.hidden);
    const auto numbers = expected.view(samples, shape_.width);
    ops.each_element(rows, shape_.hidden, find_units<S>{in, units.view(rows, shape_.hidden)});
    ops.each_element(samples, shape_.width, find_output<S>{in, found, numbers});
    double error = run.y.data != nullptr ? distance(rows_of(run.y, sampled), expected.download()) : 0;
    if (run.dx.data != nullptr) {
      ops.each_element(samples, shape_.k, find_gate_gradient<S>{in, found, dgate.view(samples, shape_.k)});
      ops.each_element(samples, shape_.width,
                       find_input_gradient<S>{in, found, dgate.view(samples, shape_.k), numbers});
      error = std::max(error, distance(rows_of(run.dx, sampled), expected.download()));
    }
    if (run.grads != nullptr) error = std::max(error, weight_gradient_error(in, *run.grads));
    return error;
  }

  /// How far gates are from the softmax of exact logits over the experts that were taken, at a few tokens; infinite if one
  /// of them was not among the best. For one layer that reaches all experts.
  double routing_error(const layer_run<S>& run) const {
    const index_t tokens = run.routing.tokens(), samples = std::min<index_t>(tokens, 8);
    const auto router = (*weights_)[weights_->layout().router(0, 0)];
    const auto weights = fetch(static_cast<const S*>(router.data), router.rows * router.cols);
    double error = 0;
    for (index_t i = 0; i < samples; ++i) {
      const index_t token = i * tokens / samples;
      const auto x = fetch(run.x.row(token).data, shape_.width);
      std::vector<double> logits;
      for (index_t e = 0; e < router.rows; ++e) {
        double sum = 0;
        for (std::size_t j = 0; j < x.size(); ++j)
          sum +=
              oracle_input<S>::wide(weights[static_cast<std::size_t>(e) * x.size() + j]) * oracle_input<S>::wide(x[j]);
        logits.push_back(sum);
      }
      const auto ids = fetch(run.routing.expert.data + token * shape_.k, shape_.k);
      const auto gates = fetch(run.routing.gate.data + token * shape_.k, shape_.k);
      double sum = 0, least = std::numeric_limits<double>::infinity();
      for (const auto id : ids) {
        sum += std::exp(logits[static_cast<std::size_t>(id)]);
        least = std::min(least, logits[static_cast<std::size_t>(id)]);
      }
      std::vector<double> expected, given(gates.begin(), gates.end());
      for (const auto id : ids) expected.push_back(std::exp(logits[static_cast<std::size_t>(id)]) / sum);
      error = std::max(error, distance(given, expected));
      index_t better = 0;
      for (const double logit : logits) better += logit > least + 1e-4 ? 1 : 0;
      if (better >= shape_.k) return std::numeric_limits<double>::infinity();
    }
    return error;
  }

 private:
  template <class T>
  std::vector<T> fetch(const T* from, index_t count) const {
    std::vector<T> result(static_cast<std::size_t>(count));
    gpu_.download(from, std::span(result));
    return result;
  }
  template <class T>
  auto array(index_t size) const {
    return gpu_.template make_array<T>(size);
  }

  double weight_gradient_error(const oracle_input<S>& in, const moue::gradients<C>& grads) const {
    const auto ids = fetch(in.routing.expert.data, in.routing.entries());
    const std::int32_t expert = ids[0];
    std::vector<index_t> mine;
    for (std::size_t i = 0; i < ids.size(); ++i)
      if (ids[i] == expert) mine.push_back(static_cast<index_t>(i));
    const index_t rows = std::ssize(mine), across = std::min<index_t>(shape_.hidden, 4),
                  along = std::min<index_t>(shape_.width, 8);
    const index_t hidden_step = shape_.hidden / across, width_step = shape_.width / along;
    const auto entries = array<index_t>(rows);
    entries.upload(mine);
    const auto units = array<hidden_unit>(rows * across);
    const auto up = array<double>(across * along), down = array<double>(across * along);
    const auto ops = gpu_.operations(moue::matrix_view<C>{});
    ops.each_element(rows, across, find_row_units<S>{in, entries.view(), hidden_step, units.view(rows, across)});
    ops.each_element(across, along,
                     find_weight_gradient<S>{in, entries.view(), hidden_step, width_step, up.view(across, along),
                                             down.view(across, along), units.view(rows, across)});
    std::vector<double> dup, ddown;
    const index_t first = grads.layout().expert_first(expert);
    for (index_t i = 0; i < across; ++i)
      for (index_t j = 0; j < along; ++j) {
        dup.push_back(number(&grads[first + 1](i * hidden_step, j * width_step)));
        ddown.push_back(number(&grads[first + 2](j * width_step, i * hidden_step)));
      }
    return std::max(distance(dup, up.download()), distance(ddown, down.download()));
  }
  double number(const C* place) const { return static_cast<double>(fetch(place, 1)[0]); }
  std::vector<double> rows_of(const moue::matrix_view<const S>& m, const std::vector<index_t>& rows) const {
    std::vector<double> result;
    for (const index_t i : rows)
      for (const S v : fetch(m.row(i).data, m.cols)) result.push_back(oracle_input<S>::wide(v));
    return result;
  }

  GpuT gpu_;
  const moue::parameters<S>* weights_;
  shape shape_;
  decltype(std::declval<GpuT>().template make_array<S*>(0)) table_;
};

}  // namespace bench
