// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Conversions of many routers with few types: stages that are chosen at run time, and comparisons by tensor name.

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moue/convert.hpp"
#include "moue/moue.hpp"
#include "stack.hpp"

namespace test {

/// Every gate, preference, selection and probability of the library that conversion must leave as it is.
enum class convention {
  softmax_of_selected,
  softmax_then_select,
  sigmoid,
  renormalised_biased,
  grouped,
  grouped_raw,
  sparsemixer
};
inline constexpr std::array conventions{convention::softmax_of_selected,
                                        convention::softmax_then_select,
                                        convention::sigmoid,
                                        convention::renormalised_biased,
                                        convention::grouped,
                                        convention::grouped_raw};

/// Calls `f` with the gate of a convention.
template <class F>
void with_gate(convention which, F&& f) {
  switch (which) {
    case convention::softmax_of_selected:
      return f(moue::softmax_of_selected{});
    case convention::softmax_then_select:
      return f(moue::softmax_then_select{});
    case convention::grouped_raw:
      return f(moue::softmax_then_select{16});
    case convention::sparsemixer:
      return f(moue::sparsemixer{0.4});
    case convention::sigmoid:
      return f(moue::sigmoid_gate{1.5});
    case convention::renormalised_biased:
    case convention::grouped:
      return f(moue::sigmoid_renormalised{2.5});
  }
}

struct chosen_gate {
  convention which;

  template <class C>
  void forward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
               moue::vector_view<C> gates) const {
    with_gate(which, [&](const auto& gate) { gate.forward(logits, selected, gates); });
  }
  template <class C>
  void backward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
                moue::vector_view<const C> gates, moue::vector_view<const C> dgates,
                moue::vector_view<C> dlogits) const {
    with_gate(which, [&](const auto& gate) { gate.backward(logits, selected, gates, dgates, dlogits); });
  }
};

struct chosen_preference {
  convention which;

  auto parameters(moue::router_shape s) const { return moue::biased_logits{}.parameters(s); }
  template <class C>
  void operator()(moue::vector_view<const C> logits, const auto& p, moue::vector_view<C> scores) const {
    if (which == convention::renormalised_biased || which == convention::grouped)
      moue::biased_sigmoid{}(logits, p, scores);
    else if (which == convention::sigmoid)
      moue::biased_logits{}(logits, p, scores);
    else
      moue::by_logits{}(logits, p, scores);
  }
};

struct chosen_probability {
  convention which;

  bool sigmoid() const { return which == convention::renormalised_biased || which == convention::grouped; }
  template <class C>
  void forward(moue::vector_view<const C> logits, moue::vector_view<C> p) const {
    sigmoid() ? moue::sigmoid_probability{}.forward(logits, p) : moue::softmax_probability{}.forward(logits, p);
  }
  template <class C>
  void backward(moue::vector_view<const C> logits, moue::vector_view<const C> p, moue::vector_view<const C> dp,
                moue::vector_view<C> dlogits) const {
    sigmoid() ? moue::sigmoid_probability{}.backward(logits, p, dp, dlogits)
              : moue::softmax_probability{}.backward(logits, p, dp, dlogits);
  }
};

struct chosen_select {
  convention which;
  moue::index_t k;

  moue::index_t max_selected(moue::index_t candidates) const { return moue::top_k{k}.max_selected(candidates); }
  template <class C>
  moue::index_t operator()(moue::vector_view<const C> scores, moue::vector_view<const std::int32_t> candidates,
                           moue::vector_view<std::int32_t> selected) const {
    if (which == convention::grouped || which == convention::grouped_raw)
      return moue::group_limited{k, {.size = 2, .allowed = 2, .best = 2}}(scores, candidates, selected);
    return moue::top_k{k}(scores, candidates, selected);
  }
};

/// A mixture of experts: layers of their own experts, and shared ones if asked for.
struct source_recipe {
  convention which = convention::softmax_of_selected;
  moue::index_t width = 8;
  moue::index_t hidden = 6;
  moue::index_t layers = 3;
  moue::index_t experts = 6;  // of a layer
  moue::index_t shared = 0;   // of a layer, and as many of the model
  moue::index_t k = 2;
};

template <class ScoreT, class BackendT>
auto make_source(const source_recipe& r, ScoreT score, BackendT backend) {
  return moue::mixture{
      moue::swiglu{r.width, r.hidden}, moue::always_on{moue::layer_local{r.layers, r.experts}, r.shared, r.shared},
      moue::router{std::move(score), chosen_select{r.which, r.k}, chosen_gate{r.which}, moue::input_features{},
                   chosen_preference{r.which}, chosen_probability{r.which}},
      moue::sum_of_losses{moue::switch_loss{0.3}, moue::universal_balance{0.4, 0.7}, moue::z_loss{0.2}},
      std::move(backend)};
}

/// A staggered ring over all routed experts of `source`, one layer of experts wide and a bit.
template <class MixtureT>
moue::convert::plan ring_plan(const MixtureT& source) {
  const auto universal = moue::convert::all_experts{}(moue::convert::wiring::of(source.topology()));
  const auto pool = static_cast<moue::index_t>(universal.size());
  return moue::convert::extend(
      source.topology(), universal,
      moue::staggered_rotation{.depth = source.layers(), .pool = pool, .window = pool / 2 + 1, .stride = 3});
}

/// The tensor of `a` that is not bit for bit the leading block of its namesake in `b`, or nothing.
template <class Tensors, class Others>
std::string first_difference(const Tensors& a, const Others& b) {
  std::string name;
  moue::convert::detail::match_tensors(a.layout(), b.layout(), [&](moue::index_t from, moue::index_t to) {
    const auto x = a[from];
    const auto y = b[to].row_block(0, x.rows).column_block(0, x.cols);
    if (name.empty() && !same_bits(to_vector(x), to_vector(y))) name = a.layout()[from].name;
  });
  return name;
}

/// What differs between two runs of one stack, or nothing. The converted model has more candidates, so that lists with
/// one entry per candidate are left out.
template <class C>
std::string difference(const stack_result<C>& a, const stack_result<C>& b) {
  const auto bits = [](C x, C y) { return same_bits(std::vector<C>{x}, std::vector<C>{y}); };
  if (!bits(a.balance, b.balance)) return "the balancing loss";
  if (!same_bits(a.output, b.output)) return "the output";
  if (!same_bits(a.last_state, b.last_state)) return "the depth state";
  if (!same_bits(a.dx, b.dx)) return "the input gradient";
  return first_difference(a.gradients, b.gradients);
}

}  // namespace test
