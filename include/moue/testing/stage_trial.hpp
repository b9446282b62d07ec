// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A score or feature stage with everything it is called with.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/router.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing::detail {

/// A stage with all it is called with. A score writes logits, a feature stage writes features. `S` stores weights.
template <class T, bool Features, class S = double>
struct stage_trial {
  using C = compute_t<S>;
  using stage_type = T;
  static constexpr std::size_t parameters = moue::detail::stage_parameter_count<T>;
  static constexpr bool keeps_state = moue::detail::has_state_width<T>;

  const T& stage;
  router_shape shape;
  watched<C> input, features, logits, extra, gates, state, next_state;
  watched<C> dinput, dfeatures, dlogits, dextra, dgates, dstate, dnext_state;
  watched<C> dlogits_of_advance, dextra_of_advance;
  bool advancing = false;  // whether what is checked is the state's way to the next layer
  std::array<watched<S>, parameters> p;
  std::array<watched<C>, parameters> dp;
  target_states<parameters> states;
  std::array<watched<C>, moue::detail::stage_temporary_count<T>> temporary;
  std::array<watched<C>, moue::detail::stage_saved_count<T>> saved;
  std::array<matrix_view<C>, moue::detail::stage_saved_count<T>> saved_views;
  std::vector<std::int32_t> candidates;
  std::vector<std::uint8_t> valid;
  std::vector<std::int64_t> token_ids, labels;
  std::vector<index_t> sequences;
  std::vector<float> side;

  stage_trial(const T& stage_, const router_shape& shape_) : stage(stage_), shape(shape_) {
    const index_t tokens = shape.tokens, n = shape.candidates;
    const index_t r = moue::detail::stage_state_width(stage, shape);
    index_t width = shape.width;
    if constexpr (Features) width = stage.width(shape.width);
    const auto normal = [&](watched<C>& m, index_t cols, std::uint64_t key) { m = make(tokens, cols).randomise(key); };
    normal(input, shape.width, 1);
    normal(features, width, 2);
    normal(gates, n, 3);
    normal(state, r, 4);
    normal(dlogits, n, 5);
    normal(dnext_state, r, 6);
    const index_t beside = moue::detail::stage_extra(stage, shape);
    normal(dextra, beside, 8);
    extra = make(tokens, beside);
    dextra_of_advance = make(tokens, beside);
    if (Features) normal(dfeatures, width, 7);
    gates.each([](C& v, index_t i, index_t j) { v = (i + j) % 2 == 0 ? C(0) : v; });  // most are not selected
    logits = make(tokens, n);
    next_state = make(tokens, r);
    dinput = make(tokens, shape.width);
    if (!Features) dfeatures = make(tokens, width);
    dgates = make(tokens, n);
    dlogits_of_advance = make(tokens, n);
    dstate = make(tokens, r);
    const auto specs = declared();
    for (std::size_t i = 0; i < parameters; ++i) {
      const numbers values = parameter_values(specs[i], 100 + i);
      p[i] = watched<S>(specs[i].rows, specs[i].cols);
      p[i].each([&](S& v, index_t row, index_t col) { v = S(static_cast<C>(values(row, col))); });
      dp[i] = watched<C>(specs[i].rows, specs[i].cols, C(0));
    }
    const auto shapes = moue::detail::stage_temporaries(stage, shape);
    for (std::size_t i = 0; i < temporary.size(); ++i) temporary[i] = make(shapes[i].rows, shapes[i].cols);
    const auto widths = moue::detail::stage_saved(stage, shape);
    for (std::size_t i = 0; i < saved.size(); ++i) saved[i] = make(tokens, widths[i]);
    saved_views = views(saved);
    for (index_t e = 0; e < shape.experts; ++e) candidates.push_back(static_cast<std::int32_t>(e));
    std::sort(candidates.begin(), candidates.end(), [](std::int32_t a, std::int32_t b) {
      return moue::detail::mix(static_cast<std::uint64_t>(a)) < moue::detail::mix(static_cast<std::uint64_t>(b));
    });
    candidates.resize(static_cast<std::size_t>(n));
    valid.assign(static_cast<std::size_t>(tokens), 1);
    for (index_t t = 0; t < tokens; ++t) {
      token_ids.push_back(t * 7 % 5);
      labels.push_back(t % 3);
      side.push_back(0.5f * static_cast<float>(t + 1));
    }
    sequences = {0, tokens / 2, tokens};
  }

  /// Parameters may not depend on the tokens of a pass: they are declared for 0 of them.
  auto declared() const {
    auto shape_of_declaration = shape;
    shape_of_declaration.tokens = 0;
    return moue::detail::stage_parameters(stage, shape_of_declaration);
  }

  watched<C>& source() { return Features ? input : features; }
  watched<C>& dsource() { return Features ? dinput : dfeatures; }
  watched<C>& output() { return Features ? features : logits; }
  watched<C>& doutput() { return Features ? dfeatures : dlogits; }

  router_frame<C> frame() {
    router_frame<C> result;
    result.at = law_visit;
    result.experts = shape.experts;
    result.saved = saved_views;
    result.candidates = {candidates.data(), shape.candidates};
    result.batch = {.valid = {valid.data(), shape.tokens},
                    .token_ids = {token_ids.data(), shape.tokens},
                    .labels = {labels.data(), shape.tokens},
                    .sequences = {sequences.data(), std::ssize(sequences)},
                    .side = {side.data(), shape.tokens, 1}};
    result.input = std::as_const(input).view();
    result.features = features.view();
    result.logits = logits.view();
    result.extra = extra.view();
    if (advancing) {
      result.gates = std::as_const(gates).view();
      result.next_state = next_state.view();
    }
    result.state = std::as_const(state).view();
    return result;
  }
  router_gradient<C> gradient() {
    return {dinput.view(),
            dfeatures.view(),
            (advancing ? dlogits_of_advance : dlogits).view(),
            (advancing ? dextra_of_advance : dextra).view(),
            dgates.view(),
            dstate.view(),
            std::as_const(dnext_state).view()};
  }

  void spoil(C stale) {
    for (auto& t : temporary) t.fill(stale);
  }
  void forward(C before, C stale = poison<C>()) {
    spoil(stale);
    for (auto& s : saved) s.fill(stale);
    output().fill(before);
    extra.fill(stale);
    advancing = false;
    stage.forward(reference_operations{}, frame(), const_views(p), views(temporary));
  }
  /// Of what `forward` left.
  void close(C stale = poison<C>()) {
    spoil(stale);
    if constexpr (moue::detail::has_close<T>)
      stage.close(reference_operations{}, frame(), const_views(p), views(temporary));
  }
  void backward(C stale = poison<C>()) {
    spoil(stale);
    advancing = false;
    stage.backward(reference_operations{}, frame(), gradient(), const_views(p), views(temporary), states.targets(dp));
    states.finish(dp);
  }
  void advance(C stale = poison<C>()) {
    spoil(stale);
    next_state.fill(stale);
    advancing = true;
    if constexpr (keeps_state) stage.advance(reference_operations{}, frame(), const_views(p), views(temporary));
  }
  void advance_backward(C stale = poison<C>()) {
    spoil(stale);
    advancing = true;
    if constexpr (keeps_state) {
      stage.advance_backward(reference_operations{}, frame(), gradient(), const_views(p), views(temporary),
                             states.targets(dp));
      states.finish(dp);
    }
  }
  /// Calls f(name, values, gradient) for all that a stage may read and must then pass gradients to.
  template <class F>
  void each_read(F&& f) {
    f(Features ? "input" : "features", source(), dsource());
    if (!Features) f("input", input, dinput);
    f("state", state, dstate);
    f("gates", gates, dgates);
    if (!Features && advancing) f("logits", logits, dlogits_of_advance);
    if (!Features && advancing) f("extra columns", extra, dextra_of_advance);
    const auto specs = declared();
    for (std::size_t i = 0; i < parameters; ++i)
      if (specs[i].trained) f(std::string(specs[i].name), p[i], dp[i]);
  }
  void clear_gradients(C value) {
    each_read([&](const auto&, auto&, watched<C>& d) { d.fill(value); });
    for (auto& d : dp) d.fill(value);
  }
  /// Gradients of parameters that hold nothing yet.
  void forget_gradients() {
    for (auto& d : dp) d.fill(poison<C>());
    states.marks.fill(0);
  }
  bool untouched_padding() const {
    for (const auto* m : {&features, &logits, &next_state, &dinput, &dfeatures, &dgates, &dstate, &dlogits_of_advance,
                          &extra, &dextra_of_advance})
      if (!m->intact()) return false;
    return intact(dp) && intact(temporary) && intact(saved);
  }

 private:
  static watched<C> make(index_t rows, index_t cols) { return watched<C>(rows, cols); }
};

}  // namespace moue::inline v0_1::testing::detail
