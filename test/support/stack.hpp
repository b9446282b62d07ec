// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A residual stack around a mixture, as a host model would write it, with its own backward.

#include <cstdint>
#include <string>
#include <vector>

#include "any_model.hpp"

namespace test {

/// Standard normal numbers, the same everywhere.
double noise(std::uint64_t seed, moue::index_t position);
std::vector<double> noise_vector(std::uint64_t seed, moue::index_t size, double deviation = 1);

/// Fills every tensor, buffers included, with numbers that leave no path through the model idle.
template <moue::Storage S>
moue::parameters<S> random_weights(const any_model<S>& model, std::uint64_t seed);

/// A batch and the host around the layers: u = x, or its RMS norm times scale[l]; the router sees u, the experts
/// u + shift[l]; x += y. The loss is <loss_weight, x at the end> plus the balancing loss.
template <moue::Storage S>
struct stack_input {
  using C = moue::compute_t<S>;
  moue::index_t tokens = 0;
  std::vector<C> x;                 // [tokens, width]
  std::vector<C> loss_weight;       // [tokens, width]
  std::vector<std::uint8_t> valid;  // [tokens], or empty
  std::vector<C> scale;             // [layers, width], or empty
  std::vector<C> shift;             // [layers, width], or empty: routers and experts then share one input
};

template <moue::Storage S>
stack_input<S> random_input(const any_model<S>& model, moue::index_t tokens, std::uint64_t seed);

/// One layer as it was run.
template <class C>
struct visit_trace {
  std::vector<C> u, y, logits, gates, state;    // state: on entry
  std::vector<std::int32_t> selected, experts;  // experts and gates: a rectangle, the always-on experts last
};

template <class C>
struct stack_result {
  explicit stack_result(std::shared_ptr<const moue::parameter_layout> layout) : gradients(std::move(layout)) {}
  C loss = 0;
  C balance = 0;
  std::vector<C> output;
  std::vector<visit_trace<C>> visits;
  std::vector<C> last_state, share, probability;
  std::vector<C> dx, dscale, dshift;  // empty in inference
  moue::gradients<C> gradients;
};

/// Runs the stack forward and, in training, backward.
template <moue::Storage S>
stack_result<moue::compute_t<S>> run_stack(const any_model<S>& model, const moue::parameters<S>& weights,
                                           const stack_input<S>& input, moue::mode how = moue::mode::training);

/// The worst disagreement between backward and central differences, over every number the loss depends on, relative to
/// the largest gradient of the tensor the number belongs to. Throws if a difference moved a selection.
struct disagreement {
  double error = 0;
  std::string where;
};
disagreement compare_with_differences(const any_model<double>& model, moue::parameters<double> weights,
                                      stack_input<double> input);

/// max |a - b| / max(least, max |b|); infinite where sizes differ or a number is NaN.
template <class A, class B>
double distance(const A& a, const B& b, double least = 1);
/// The same over all tensors.
double distance(const moue::gradients<double>& a, const moue::gradients<double>& b);

template <class C>
bool same_bits(const std::vector<C>& a, const std::vector<C>& b);
template <class C>
bool same_bits(const moue::gradients<C>& a, const moue::gradients<C>& b);

}  // namespace test

#include "stack_compare.hpp"
