// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of balancing losses.

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/balance.hpp"
#include "moue/expert/copy.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/pass.hpp"
#include "moue/router/compose.hpp"
#include "moue/router/probability.hpp"
#include "moue/testing/model_laws.hpp"
#include "moue/testing/row_laws.hpp"
#include "moue/testing/values.hpp"
#include "moue/topology/table.hpp"

namespace moue::inline v0_1::testing {
namespace detail {

/// Statistics of a made-up depth: three layers of different widths over six experts, some shared, the last always on.
class depth_trial {
 public:
  static constexpr index_t layers = 3, experts = 6, columns = 9;

  /// Expert e is called `names[e]`, and column i of the plain order stands at `places[i]` (within its layer).
  explicit depth_trial(const std::array<std::int32_t, experts>& names = {0, 1, 2, 3, 4, 5},
                       const std::array<index_t, columns>& places = {0, 1, 2, 3, 4, 5, 6, 7, 8})
      : exposure_(1, experts, 0), probability(1, columns), share_(1, columns), f_(1, experts), g_(1, experts) {
    constexpr std::array<std::int32_t, columns> plain{0, 1, 2, 1, 2, 3, 4, 2, 4};
    for (index_t i = 0; i < columns; ++i) {
      const auto at = static_cast<std::uint64_t>(i);
      const index_t to = places[static_cast<std::size_t>(i)];
      const auto e = names[static_cast<std::size_t>(plain[static_cast<std::size_t>(i)])];
      candidates_[static_cast<std::size_t>(to)] = e;
      exposure_(0, e) += 1;
      open_[static_cast<std::size_t>(to)] = 1;
      probability(0, to) = 0.1 + 0.3 * moue::detail::uniform_at(1, at);
      share_(0, to) = i == 5 ? 0 : 0.1 + 0.3 * moue::detail::uniform_at(2, at);
    }
  }
  void clear() {
    probability.fill(0);
    share_.fill(0);
  }

  depth_statistics<double> statistics() {
    f_.fill(0);
    g_.fill(0);
    for (index_t i = 0; i < columns; ++i) {
      f_(0, candidates_[static_cast<std::size_t>(i)]) += share_(0, i);
      g_(0, candidates_[static_cast<std::size_t>(i)]) += probability(0, i);
    }
    return {layers,
            experts,
            11,
            {offsets_.data(), layers + 1},
            {candidates_.data(), columns},
            std::as_const(exposure_).row(),
            std::as_const(share_).row(),
            std::as_const(probability).row(),
            std::as_const(f_).row(),
            std::as_const(g_).row(),
            {open_.data(), columns},
            law_visit};
  }

 private:
  std::array<index_t, layers + 1> offsets_{0, 3, 7, 9};
  std::array<std::int32_t, columns> candidates_{};
  std::array<std::uint8_t, columns> open_{};
  numbers exposure_;

 public:
  numbers probability;

 private:
  numbers share_, f_, g_;
};

inline bool all_finite(const numbers& m) {
  return std::all_of(m.row().begin(), m.row().end(), [](double v) { return std::isfinite(v); });
}

/// Experts renamed, and candidates listed in another order, must lead to the same.
void check_depth_names(law_report& report, const auto& value, const auto& gradient) {
  depth_trial plain;
  const double base = value(plain);
  const numbers d = gradient(plain, 0);
  constexpr std::array<index_t, depth_trial::columns> places{2, 0, 1, 6, 3, 5, 4, 8, 7};
  depth_trial renamed({3, 5, 0, 2, 1, 4}), moved({0, 1, 2, 3, 4, 5}, places);
  constexpr std::string_view law = "names and order of experts do not matter";
  for (auto* other : {&renamed, &moved})
    report.expect(law, close(value(*other), base), [&] {
      return std::string(other == &renamed ? "with experts renamed" : "with candidates listed in another order") +
             " the value is " + text(value(*other)) + ", not " + text(base);
    });
  expect_close(report, law, "with experts renamed, the gradient of column ", gradient(renamed, 0), d);
  numbers back(1, depth_trial::columns);
  const numbers elsewhere = gradient(moved, 0);
  for (index_t i = 0; i < depth_trial::columns; ++i) back(0, i) = elsewhere(0, places[static_cast<std::size_t>(i)]);
  expect_close(report, law, "listed in another order, the gradient of column ", back, d);
}

template <class L>
void check_depth_loss(law_report& report, const L& loss) {
  const auto value = [&](depth_trial& depth) { return static_cast<double>(loss.value(depth.statistics())); };
  const auto gradient = [&](depth_trial& depth, double before) {
    numbers d(1, depth_trial::columns, before);
    loss.gradient(depth.statistics(), d.row());
    report.expect("nothing is written beside the gradient", d.intact(),
                  [] { return std::string("memory beside the columns was written"); });
    d.each([&](double& v, index_t, index_t) { v -= before; });
    return d;
  };
  depth_trial plain;
  const numbers d = gradient(plain, 0);
  expect_close(report, "gradient adds", "what was added for column ", gradient(plain, 2.5), d);
  expect_gradient(report, "gradient agrees with central differences", "P", plain.probability, d,
                  [&] { return value(plain); });

  if constexpr (!names_matter<L>) check_depth_names(report, value, gradient);
  depth_trial empty;
  empty.clear();
  report.expect("a batch without tokens is legal", std::isfinite(value(empty)) && all_finite(gradient(empty, 0)),
                [&] { return "the value is " + text(value(empty)) + " where all tables are zero"; });
}

template <class L, class P>
void check_token_loss(law_report& report, const L& loss, const P& probability) {
  constexpr index_t n = 6;
  const auto probabilities = [&](const numbers& logits) {
    numbers p(1, n);
    call_row(moue::detail::call_forward{}, probability, logits.row(), p.row());
    return p;
  };
  const auto value = [&](const numbers& logits) {
    const numbers p = probabilities(logits);
    return row_value<double>(moue::detail::call_token_value{}, loss, logits.row(), p.row());
  };
  const auto gradient = [&](const numbers& logits, double scale, double before) {
    const numbers p = probabilities(logits);
    numbers d(1, n, before);
    call_row(moue::detail::call_token_gradient{}, loss, logits.row(), p.row(), scale, d.row());
    report.expect("nothing is written beside the gradient", d.intact(),
                  [] { return std::string("memory beside dlogits was written"); });
    d.each([&](double& v, index_t, index_t) { v -= before; });
    return d;
  };
  numbers logits = numbers(1, n).randomise(1);
  const numbers d = gradient(logits, 1, 0);
  expect_close(report, "token_gradient adds", "what was added to d logit ", gradient(logits, 1, 2.5), d);
  numbers triple = gradient(logits, 3, 0);
  triple.each([](double& v, index_t, index_t) { v /= 3; });
  expect_close(report, "token_gradient is multiplied by scale", "a third of thrice d logit ", triple, d);
  expect_gradient(report, "token_gradient agrees with central differences", "logit ", logits, d,
                  [&] { return value(logits); });
  numbers reversed(1, n);
  reversed.each([&](double& v, index_t, index_t j) { v = logits(0, n - 1 - j); });
  if constexpr (!names_matter<L>)
    report.expect("the order of a row does not matter", close(value(reversed), value(logits)), [&] {
      return "the value is " + text(value(logits)) + " and, with the row reversed, " + text(value(reversed));
    });
  logits(0, 1) = closed;
  const numbers shut = gradient(logits, 1, 0);
  report.expect("a closed candidate gets no gradient",
                shut(0, 1) == 0 && all_finite(shut) && std::isfinite(value(logits)),
                [&] { return "the value is " + text(value(logits)) + ", d logit " + text(shut(0, 1)); });
  logits.fill(closed);
  report.expect("a row without open candidates is legal",
                std::isfinite(value(logits)) && all_finite(gradient(logits, 1, 0)),
                [&] { return "the value is " + text(value(logits)); });
}

/// The loss of a batch through a pass, with its tokens in the given order; -1 puts padding there.
template <class L, class P>
double batch_loss(const L& loss, const P& probability, const std::vector<index_t>& order) {
  constexpr index_t width = 4;
  const mixture model{copy_expert{width}, table{4, {{0, 1, 2}, {3, 1, 2, 0}}},
                      router{linear_score{.deviation = 1}, top_k<2>{}, softmax_of_selected{}}.with(probability), loss,
                      reference{}};
  const auto weights = model.template initialize<double>(1);
  const auto tokens = static_cast<index_t>(order.size());
  const pass_options options{.tokens = tokens};
  workspace scratch(model.template workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<double> x, y(order.size() * width);
  std::vector<std::uint8_t> valid;
  for (const index_t token : order) {
    valid.push_back(token >= 0);
    for (index_t j = 0; j < width; ++j)
      x.push_back(token < 0 ? 100 : moue::detail::normal_at(5, static_cast<std::uint64_t>(token * width + j)));
  }
  side_inputs inputs;
  inputs.valid = {valid.data(), tokens};
  pass.begin(tokens, inputs);
  for (index_t layer = 0; layer < model.layers(); ++layer)
    pass.forward(layer, {x.data(), tokens, width}, {y.data(), tokens, width});
  return pass.balance();
}

template <class L, class P>
void check_batch_loss(law_report& report, const L& loss, const P& probability) {
  const double base = batch_loss(loss, probability, {0, 1, 2, 3, 4});
  const double shuffled = batch_loss(loss, probability, {3, 0, 4, 2, 1});
  const double padded = batch_loss(loss, probability, {0, -1, 1, 2, -1, 3, 4});
  if constexpr (!tokens_matter<L>)
    report.expect("the order of tokens does not matter", close(shuffled, base),
                  [&] { return "the loss is " + text(base) + " and, with tokens shuffled, " + text(shuffled); });
  if constexpr (!tokens_matter<L>)
    report.expect("padding does not matter", close(padded, base),
                  [&] { return "the loss is " + text(base) + " and, with padding, " + text(padded); });
}

}  // namespace detail

/// Checks that a balancing loss is one: gradients with respect to mean probabilities, and to the logits of a row, agree
/// with central differences and are added, those of a layer loss in a small model; names and order of experts, order of
/// tokens and padding do not matter; empty batches and closed candidates are legal. `probability` is the stage whose p the loss will read. A loss that says
/// `static constexpr bool names_matter = true` or `tokens_matter = true` is not held to
/// the names, or to the order of tokens and padding.
template <BalancingLoss L, ProbabilityStage P = softmax_probability>
law_report check_balance_laws(const L& loss, const P& probability = {}) {
  law_report report("balancing loss");
  if constexpr (DepthLoss<L>) report.attempt("the depth loss", [&] { detail::check_depth_loss(report, loss); });
  if constexpr (TokenLoss<L>)
    report.attempt("the token loss", [&] { detail::check_token_loss(report, loss, probability); });
  if constexpr (moue::detail::sees_layers<L> && !detail::surrogate_gradient<L>)
    report.attempt("the layer loss", [&] {
      const mixture model{swiglu{.width = 4, .hidden = 3}, table{4, {{0, 1, 2}, {3, 1, 2, 0}}},
                          router{linear_score{.deviation = 1}, top_k<2>{}, softmax_of_selected{}}.with(probability),
                          loss, reference{}};
      const auto found = check_gradients(model);
      report.expect("gradients of a model with the layer loss agree with central differences", bool(found),
                    [&] { return found.summary(); });
    });
  report.attempt("the loss of a pass", [&] { detail::check_batch_loss(report, loss, probability); });
  detail::note_exemptions<L>(report);
  return report;
}

}  // namespace moue::inline v0_1::testing
