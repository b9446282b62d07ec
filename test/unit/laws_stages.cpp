// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Policies with one fault each: the checks of laws must name the law that broke. Here: score and feature stages.

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <type_traits>

#include "moue/testing/stage_laws.hpp"

namespace {

void names(const moue::testing::law_report& report, const std::string& law) {
  CHECK_MESSAGE(!static_cast<bool>(report), law);
  CHECK_MESSAGE(report.broke(law), "'" << law << "' is not among the broken:\n" << report.summary());
}
void holds(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

enum class stage_fault {
  none,
  no_name,
  no_state,
  no_width,
  opposite_write,
  reads_scratch,
  writes_beside,
  tokens_meet,
  states_meet,
  widened_twice,
  read_wrong,
  read_assigned,
  not_cleared,
  closed_by_sum,
  assumed,
  weight_wrong,
  state_forgotten,
  buffer_trained,
  token_zero_assumed,
  next_added,
  next_reads_scratch,
  gates_forgotten,
  next_weight_wrong
};

/// As a score: z_j = sum_i w_i u_i² + b s_0. As features: f_j = u_j² w_j + b s_0. In both, s' = v (s + sum_j gate_j).
template <bool Features>
struct faulty_stage {
  stage_fault fault = stage_fault::none;

  bool has(stage_fault f) const { return fault == f; }
  moue::index_t width(moue::index_t input) const requires Features { return has(stage_fault::no_width) ? 0 : input; }
  moue::index_t state_width() const { return has(stage_fault::no_state) ? 0 : 1; }
  auto parameters(moue::router_shape s) const {
    return std::array{moue::parameter_spec{"w", 1, s.width, moue::initializer::normal(1)},
                      moue::parameter_spec{has(stage_fault::no_name) ? "w" : "b", 1, 1, moue::initializer::constant(1),
                                           moue::scope::layer, false},
                      moue::parameter_spec{"v", 1, 1, moue::initializer::constant(0)}};
  }
  auto temporaries(moue::router_shape) const { return std::array{moue::matrix_shape{1, 1}}; }

  template <class C>
  void forward(const auto&, const moue::router_frame<C>& frame, const auto& p, const auto& temporary) const {
    using W = typename std::remove_cvref_t<decltype(p[0])>::value_type;
    const auto& u = Features ? frame.input : moue::matrix_view<const C>(frame.features);
    const auto& out = Features ? frame.features : frame.logits;
    for (moue::index_t t = 0; t < out.rows; ++t) {
      const moue::index_t from = has(stage_fault::tokens_meet) ? out.rows - 1 : t;
      for (moue::index_t j = 0; j < out.cols; ++j) {
        C value = static_cast<C>(p[1](0, 0)) * (frame.state.cols > 0 ? frame.state(t, 0) : C(0));
        for (moue::index_t i = Features ? j : 0; i < (Features ? j + 1 : u.cols); ++i)
          value += static_cast<C>(p[0](0, i)) * u(from, i) * u(from, i);
        if (has(stage_fault::widened_twice) && !std::is_same_v<W, C>) value *= 2;
        if (has(stage_fault::reads_scratch) && temporary[0](0, 0) > 0) value += 1;
        out(t, j) = Features != has(stage_fault::opposite_write) ? value : out(t, j) + value;
      }
      if (has(stage_fault::writes_beside)) out(t, out.cols) = 0;
    }
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto& p, const auto&, const auto& dp) const {
    const bool wanted = !dp[0].empty();
    const auto weight = has(stage_fault::not_cleared) && wanted ? dp[0].values() : moue::accumulate(ops, dp[0]);
    if (has(stage_fault::not_cleared) && wanted) dp[0].set_written();
    const auto& u = Features ? frame.input : moue::matrix_view<const C>(frame.features);
    const auto& du = Features ? gradient.input : gradient.features;
    const auto& out = Features ? moue::matrix_view<const C>(gradient.features) : gradient.logits;
    if (has(stage_fault::token_zero_assumed) && wanted) weight(0, 0) += 1;
    if (has(stage_fault::buffer_trained) && !dp[1].empty()) moue::accumulate(ops, dp[1])(0, 0) += 1;
    for (moue::index_t t = 0; t < out.rows; ++t)
      for (moue::index_t j = 0; j < out.cols; ++j) {
        const C d = out(t, j);
        for (moue::index_t i = Features ? j : 0; i < (Features ? j + 1 : u.cols); ++i) {
          const C slope = (has(stage_fault::read_wrong) ? 3 : 2) * d * p[0](0, i) * u(t, i);
          du(t, i) = has(stage_fault::read_assigned) ? slope : du(t, i) + slope;
          if (!wanted && has(stage_fault::assumed)) du(t, i) = 0;
          if (wanted) weight(0, i) += (has(stage_fault::weight_wrong) ? 2 : 1) * d * u(t, i) * u(t, i);
        }
        if (!has(stage_fault::state_forgotten) && frame.state.cols > 0) gradient.state(t, 0) += d * p[1](0, 0);
      }
  }
  template <class C>
  void close(const auto&, const moue::router_frame<C>& frame, const auto&, const auto&) const requires(!Features) {
    frame.logits(0, 0) = moue::detail::minus_infinity<C>();
    if (has(stage_fault::closed_by_sum)) frame.logits(frame.logits.rows - 1, 0) -= C(100);
  }
  template <class C>
  void advance(const auto&, const moue::router_frame<C>& frame, const auto& p, const auto& temporary) const {
    for (moue::index_t t = 0; t < frame.next_state.rows && frame.state.cols > 0; ++t) {
      C sum = frame.state(has(stage_fault::states_meet) ? frame.state.rows - 1 : t, 0);
      for (moue::index_t j = 0; j < frame.gates.cols; ++j) sum += frame.gates(t, j);
      if (has(stage_fault::next_reads_scratch) && temporary[0](0, 0) > 0) sum += 1;
      const C value = static_cast<C>(p[2](0, 0)) * sum;
      frame.next_state(t, 0) = has(stage_fault::next_added) ? frame.next_state(t, 0) + value : value;
    }
  }
  template <class C>
  void advance_backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                        const auto& p, const auto&, const auto& dp) const {
    const auto factor = moue::accumulate(ops, dp[2]);
    for (moue::index_t t = 0; t < frame.state.rows && frame.state.cols > 0; ++t) {
      const C d = gradient.next_state(t, 0), through = d * p[2](0, 0);
      C sum = frame.state(t, 0);
      for (moue::index_t j = 0; j < frame.gates.cols; ++j) sum += frame.gates(t, j);
      gradient.state(t, 0) += through;
      if (!has(stage_fault::gates_forgotten))
        for (moue::index_t j = 0; j < frame.gates.cols; ++j) gradient.gates(t, j) += through;
      if (!factor.empty()) factor(0, 0) += (has(stage_fault::next_weight_wrong) ? 2 : 1) * d * sum;
    }
  }
};

template <bool Features, class Check>
void stage_faults_are_named(const Check& check_laws) {
  const auto check = [&](stage_fault fault) { return check_laws(faulty_stage<Features>{fault}); };
  const char* scratch = "forward reads no scratch it did not write and repeats itself";
  const char* backward = "backward agrees with central differences";
  const char* advance = "advance_backward agrees with central differences";
  holds(check(stage_fault::none));
  names(check(stage_fault::no_name), "parameters have names of their own and sizes that are not negative");
  names(check(stage_fault::no_state), "the state has a width");
  names(check(stage_fault::opposite_write), Features ? "forward assigns the features" : "forward adds to the logits");
  names(check(stage_fault::reads_scratch), scratch);
  names(check(stage_fault::writes_beside), "nothing is written beside the outputs");
  names(check(stage_fault::tokens_meet), "tokens are independent");
  names(check(stage_fault::states_meet), "state never crosses tokens");
  names(check(stage_fault::widened_twice), "weights may be stored in a narrower type");
  names(check(stage_fault::read_wrong), backward);
  names(check(stage_fault::read_assigned), "backward adds to gradients");
  names(check(stage_fault::not_cleared), "backward assigns gradients that hold nothing");
  if (!Features) names(check(stage_fault::closed_by_sum), "close assigns minus infinity or nothing");
  names(check(stage_fault::assumed), "any gradient of a parameter may be unwanted");
  names(check(stage_fault::weight_wrong), backward);
  names(check(stage_fault::state_forgotten), backward);
  names(check(stage_fault::buffer_trained), "buffers get no gradient");
  names(check(stage_fault::token_zero_assumed), "zero tokens are legal and change nothing");
  names(check(stage_fault::next_added), "advance assigns next_state");
  names(check(stage_fault::next_reads_scratch), "advance reads no scratch it did not write and repeats itself");
  names(check(stage_fault::gates_forgotten), advance);
  names(check(stage_fault::next_weight_wrong), advance);
}

}  // namespace

TEST_CASE("faults of score stages are named") {
  stage_faults_are_named<false>([](const auto& stage) { return moue::testing::check_score_laws(stage); });
  names(
      moue::testing::check_score_laws(faulty_stage<false>{}, {.tokens = 5, .width = 3, .candidates = 4, .experts = 2}),
      "the shape of the check makes sense");
}

TEST_CASE("faults of feature stages are named") {
  stage_faults_are_named<true>([](const auto& stage) { return moue::testing::check_feature_laws(stage); });
  names(moue::testing::check_feature_laws(faulty_stage<true>{stage_fault::no_width}), "the features have a width");
}
