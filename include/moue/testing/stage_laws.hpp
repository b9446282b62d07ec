// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of score and feature stages.

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "moue/router.hpp"
#include "moue/router/features.hpp"
#include "moue/testing/stage_trial.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing {
namespace detail {

/// Runs one backward function on zeros and on a constant: gradients must be the same additions, and right.
template <class Trial, class Run, class Loss>
void check_stage_gradients(law_report& report, Trial& trial, const std::string& which, const Run& run,
                           const Loss& loss) {
  trial.advancing = which == "advance_backward";
  trial.clear_gradients(0);
  trial.forget_gradients();
  run(poison<double>());
  const auto specs = trial.declared();
  std::vector<numbers> added;
  trial.each_read([&](const auto&, auto&, numbers& d) { added.push_back(d); });
  for (std::size_t i = 0; i < specs.size(); ++i)
    expect_close(report, which + " assigns gradients that hold nothing", "d " + std::string(specs[i].name), trial.dp[i],
                 trial.dp[i]);
  trial.clear_gradients(0);
  trial.states.unwanted.fill(true);
  run(poison<double>());
  trial.states.unwanted.fill(false);
  std::size_t seen = 0;
  trial.each_read([&](const std::string& name, auto&, numbers& d) {
    const bool parameter =
        std::any_of(trial.dp.begin(), trial.dp.end(), [&](const numbers& own) { return &own == &d; });
    report.expect("any gradient of a parameter may be unwanted", parameter || d.same(added[seen]),
                  [&] { return "without all of them " + which + " gives another d " + name; });
    ++seen;
  });
  trial.clear_gradients(2.5);
  run(-1e3);
  std::size_t at = 0;
  trial.each_read([&](const std::string& name, auto&, numbers& d) {
    d.each([](double& v, index_t, index_t) { v -= 2.5; });
    expect_close(report, which + " adds to gradients", "what was added to d " + name, d, added[at++]);
  });
  for (std::size_t i = 0; i < specs.size(); ++i)
    if (!specs[i].trained)
      report.expect("buffers get no gradient", trial.dp[i].same(numbers(specs[i].rows, specs[i].cols, 2.5)),
                    [&] { return which + " wrote to d " + std::string(specs[i].name); });
  report.expect("nothing is written beside the outputs", trial.untouched_padding(),
                [&] { return which + " wrote outside a view (views have a stride)"; });
  at = 0;
  if constexpr (surrogate_gradient<typename Trial::stage_type>) return;
  trial.each_read([&](const std::string& name, numbers& values, numbers&) {
    const numbers stated = added[at++];
    expect_gradient(report, which + " agrees with central differences", name, values, stated, loss);
  });
}

template <bool Features, class T>
void check_stage_forward(law_report& report, const T& stage, const router_shape& shape) {
  stage_trial<T, Features> trial(stage, shape);
  if constexpr (Features) {
    trial.forward(poison<double>());
    const numbers first = trial.output();
    expect_close(report, "forward assigns the features", "feature ", first, first);
    trial.forward(1e3, 1e3);
    report.expect("forward reads no scratch it did not write and repeats itself", trial.output().same(first),
                  [] { return std::string("features differ when scratch holds other numbers on entry"); });
  } else {
    trial.forward(0);
    const numbers first = trial.output();
    trial.forward(0, 1e3);
    report.expect("forward reads no scratch it did not write and repeats itself", trial.output().same(first),
                  [] { return std::string("logits differ when temporary holds other numbers on entry"); });
    if constexpr (moue::detail::has_close<T>) {
      trial.close();
      trial.output().each([&](double v, index_t i, index_t j) {
        report.expect("close assigns minus infinity or nothing",
                      v == moue::detail::minus_infinity<double>() || v == first(i, j),
                      [&] { return "logit " + text(first(i, j)) + " became " + text(v); });
      });
    }
    const numbers first_extra = trial.extra;
    trial.forward(2.5);
    trial.output().each([](double& v, index_t, index_t) { v -= 2.5; });
    expect_close(report, "forward adds to the logits", "what was added to logit ", trial.output(), first);
    expect_close(report, "forward assigns the extra columns", "column ", trial.extra, first_extra);
  }
  report.expect("nothing is written beside the outputs", trial.untouched_padding(),
                [] { return std::string("forward wrote outside a view (views have a stride)"); });
  check_stage_gradients(
      report, trial, "backward", [&](double stale) { trial.backward(stale); },
      [&] {
        trial.forward(0);
        return dot(trial.output(), trial.doutput()) + dot(trial.extra, trial.dextra);
      });
}

template <bool Features, class T>
void check_stage_advance(law_report& report, const T& stage, const router_shape& shape) {
  stage_trial<T, Features> trial(stage, shape);
  trial.forward(0);
  trial.advance();
  const numbers first = trial.next_state;
  expect_close(report, "advance assigns next_state", "next_state", first, first);
  trial.advance(1e3);
  report.expect("advance reads no scratch it did not write and repeats itself", trial.next_state.same(first),
                [] { return std::string("next_state differs when it and temporary hold other numbers on entry"); });
  check_stage_gradients(
      report, trial, "advance_backward", [&](double stale) { trial.advance_backward(stale); },
      [&] {
        trial.advance();
        return dot(trial.next_state, trial.dnext_state);
      });
}

/// Another token's row may not matter: not its source, state or gates.
template <bool Features, class T>
void check_stage_tokens(law_report& report, const T& stage, const router_shape& shape) {
  stage_trial<T, Features> before(stage, shape), after(stage, shape);
  for (auto* m : {&after.input, &after.source(), &after.state, &after.gates})
    for (auto& v : m->row(shape.tokens - 1)) v += 1;
  for (auto* trial : {&before, &after}) {
    trial->forward(0);
    trial->advance();
  }
  for (index_t t = 0; t + 1 < shape.tokens; ++t) {
    const auto differs = [&](const numbers& a, const numbers& b) {
      return !std::equal(a.row(t).begin(), a.row(t).end(), b.row(t).begin());
    };
    report.expect("tokens are independent", !differs(before.output(), after.output()), [&] {
      return "the output of token " + std::to_string(t) + " changed with token " + std::to_string(shape.tokens - 1);
    });
    if constexpr (moue::detail::has_state_width<T>)
      report.expect("state never crosses tokens", !differs(before.next_state, after.next_state), [&] {
        return "next_state of token " + std::to_string(t) + " changed with token " + std::to_string(shape.tokens - 1);
      });
  }
}

template <bool Features, class T>
void check_stage_storage(law_report& report, const T& stage, const router_shape& shape) {
  stage_trial<T, Features, bf16> narrow(stage, shape);
  stage_trial<T, Features, float> wide(stage, shape);
  for (std::size_t i = 0; i < wide.p.size(); ++i)
    wide.p[i].each([&](float& v, index_t r, index_t c) { v = static_cast<float>(narrow.p[i](r, c)); });
  narrow.forward(0);
  wide.forward(0);
  narrow.advance();
  wide.advance();
  report.expect("weights may be stored in a narrower type",
                narrow.output().same(wide.output()) && narrow.next_state.same(wide.next_state),
                [] { return std::string("bf16 weights and the same numbers as float give different outputs"); });
}

template <bool Features, class T>
void check_stage_empty(law_report& report, const T& stage, router_shape shape) {
  shape.tokens = 0;
  stage_trial<T, Features> none(stage, shape);
  none.clear_gradients(0);
  none.forget_gradients();
  none.forward(0);
  none.advance();
  none.advance_backward();
  none.backward();
  bool zero = true;
  for (auto& d : none.dp) d.each([&](double& v, index_t, index_t) { zero = zero && v == 0; });
  report.expect("zero tokens are legal and change nothing", zero && none.untouched_padding(),
                [] { return std::string("dp or memory beside an empty view was written"); });
}

template <bool Features, class T>
void check_stage(law_report& report, const T& stage, const router_shape& shape) {
  expect_declarations(report, stage_trial<T, Features>(stage, shape).declared());
  report.attempt("forward or backward", [&] { check_stage_forward<Features>(report, stage, shape); });
  if constexpr (moue::detail::has_state_width<T>) {
    const index_t width = moue::detail::stage_state_width(stage, shape);
    report.expect("the state has a width", width > 0, [&] { return "state_width is " + std::to_string(width); });
    report.attempt("advance or advance_backward", [&] { check_stage_advance<Features>(report, stage, shape); });
  }
  if constexpr (!tokens_matter<T>)
    report.attempt("a changed token", [&] { check_stage_tokens<Features>(report, stage, shape); });
  report.attempt("bf16 weights", [&] { check_stage_storage<Features>(report, stage, shape); });
  report.attempt("zero tokens", [&] { check_stage_empty<Features>(report, stage, shape); });
  note_exemptions<T>(report);
}

inline bool usable(law_report& report, const router_shape& shape) {
  const bool ok = shape.tokens >= 2 && shape.width > 0 && shape.candidates > 0 && shape.experts >= shape.candidates;
  report.expect("the shape of the check makes sense", ok,
                [] { return std::string("needs tokens >= 2, width > 0 and 0 < candidates <= experts"); });
  return ok;
}

}  // namespace detail

/// A shape that suits most stages; its width is that of the features for a score, of the input for a feature stage.
inline constexpr router_shape law_shape{.tokens = 5, .width = 6, .candidates = 4, .experts = 7};

/// Checks that a score stage is one: `forward` adds to the logits, `close` only closes, `backward` and `advance_backward` add what central
/// differences confirm, for features, input, state, gates and parameters, whose gradients may hold nothing yet or be
/// unwanted; tokens and their states are independent. A stage that says `static constexpr bool surrogate_gradient = true`
/// or `tokens_matter = true` is not held to the differences, or to the independence.
template <ScoreStage T>
law_report check_score_laws(const T& stage, const router_shape& shape = law_shape) {
  law_report report("score stage");
  if (detail::usable(report, shape)) detail::check_stage<false>(report, stage, shape);
  return report;
}

/// Checks that a feature stage is one: as for scores, but `forward` assigns the features. (`input_features` has nothing
/// to assign: routers hand the input on.)
template <FeatureStage T>
law_report check_feature_laws(const T& stage, const router_shape& shape = law_shape) {
  law_report report("feature stage");
  if (!detail::usable(report, shape)) return report;
  const index_t width = stage.width(shape.width);
  report.expect("the features have a width", width > 0, [&] { return "width() is " + std::to_string(width); });
  if constexpr (!std::is_same_v<T, input_features>)
    if (report) detail::check_stage<true>(report, stage, shape);
  return report;
}

}  // namespace moue::inline v0_1::testing
