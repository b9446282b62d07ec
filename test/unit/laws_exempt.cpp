// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>

#include "message_of.hpp"
#include "moue/policies.hpp"
#include "moue/testing/laws.hpp"
#include "seen_loss.hpp"

// A policy that says which laws it is not meant to keep is not held to them, and the report says so; one that does not say so
// is.

namespace {

using moue::index_t;
using moue::matrix_view;
using moue::vector_view;

/// Expert e costs e + 1.
template <bool Says>
struct costs {
  static constexpr bool names_matter = Says;
  template <class C>
  C value(const moue::depth_statistics<C>& s) const {
    C sum = 0;
    for (index_t i = 0; i < s.probability.size; ++i) sum += C(s.candidates[i] + 1) * s.probability[i];
    return sum;
  }
  template <class C>
  void gradient(const moue::depth_statistics<C>& s, vector_view<C> d) const {
    for (index_t i = 0; i < d.size; ++i) d[i] += C(s.candidates[i] + 1);
  }
};
/// Later candidates cost more.
template <bool Says>
struct costs_by_place {
  static constexpr bool names_matter = Says;
  template <class C>
  C token_value(vector_view<const C>, vector_view<const C> p) const {
    C sum = 0;
    for (index_t j = 0; j < p.size; ++j) sum += C(j + 1) * p[j];
    return sum;
  }
  template <class C>
  void token_gradient(vector_view<const C> z, vector_view<const C> p, C scale, vector_view<C> dz) const {
    const C mean = token_value(z, p);
    for (index_t j = 0; j < p.size; ++j) dz[j] += scale * p[j] * (C(j + 1) - mean);
  }
};
/// The token's place in the batch times the squares of its logits.
template <bool Says>
struct costs_by_token {
  static constexpr bool tokens_matter = Says;
  template <class C>
  C token_value(vector_view<const C> z, vector_view<const C>, const moue::row_context& at) const {
    C sum = 0;
    for (const C v : z) sum += std::isfinite(v) ? v * v : C(0);
    return sum * C(at.token + 1);
  }
  template <class C>
  void token_gradient(vector_view<const C> z, vector_view<const C>, C scale, vector_view<C> dz,
                      const moue::row_context& at) const {
    for (index_t j = 0; j < z.size; ++j) dz[j] += std::isfinite(z[j]) ? 2 * scale * C(at.token + 1) * z[j] : C(0);
  }
};
/// Rounded features, and the gradient as if they were not.
template <bool Says>
struct rounds {
  static constexpr bool surrogate_gradient = Says;
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols,
                     [=](index_t t, index_t j) { frame.logits(t, j) += std::round(4 * frame.features(t, j)); });
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto&, const auto&, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols,
                     [=](index_t t, index_t j) { gradient.features(t, j) += 4 * gradient.logits(t, j); });
  }
};
/// The mean of the features of a token's sequence.
template <bool Says>
struct pools {
  static constexpr bool tokens_matter = Says;
  template <class F>
  static void each_pair(const moue::side_inputs& batch, index_t tokens, const F& f) {
    for (index_t t = 0; t < tokens; ++t) {
      index_t first = 0, last = tokens;
      for (const index_t begin : batch.sequences) {
        if (begin <= t) first = begin;
        if (begin > t) last = std::min(last, begin);
      }
      for (index_t other = first; other < last; ++other) f(t, other, last - first);
    }
  }
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_row(frame.logits.cols, [=](index_t j) {
      each_pair(frame.batch, frame.logits.rows, [&](index_t t, index_t other, index_t count) {
        frame.logits(t, j) += frame.features(other, j) / C(count);
      });
    });
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto&, const auto&, const auto&) const {
    ops.each_row(frame.logits.cols, [=](index_t j) {
      each_pair(frame.batch, frame.logits.rows, [&](index_t t, index_t other, index_t count) {
        gradient.features(other, j) += gradient.logits(t, j) / C(count);
      });
    });
  }
};
/// The last of the open ones.
template <bool Says>
struct takes_last {
  static constexpr bool takes_best = !Says;
  static constexpr bool names_matter = Says;
  constexpr index_t max_selected(index_t n) const { return std::min<index_t>(n, 1); }
  template <class C>
  index_t operator()(vector_view<const C> scores, vector_view<const std::int32_t>,
                     vector_view<std::int32_t> selected) const {
    for (index_t j = scores.size; j-- > 0;) {
      if (scores[j] == moue::detail::minus_infinity<C>()) continue;
      selected[0] = static_cast<std::int32_t>(j);
      return 1;
    }
    return 0;
  }
};
/// 1 for what is selected, with the gradient of a sigmoid.
template <bool Says>
struct straight_through {
  static constexpr bool surrogate_gradient = Says;
  template <class C>
  void forward(vector_view<const C>, vector_view<const std::int32_t> selected, vector_view<C> gates) const {
    for (index_t i = 0; i < selected.size; ++i) gates[i] = 1;
  }
  template <class C>
  void backward(vector_view<const C> z, vector_view<const std::int32_t> selected, vector_view<const C>,
                vector_view<const C> dgates, vector_view<C> dz) const {
    for (index_t i = 0; i < selected.size; ++i) {
      const C s = 1 / (1 + std::exp(-z[selected[i]]));
      dz[selected[i]] += dgates[i] * s * (1 - s);
    }
  }
};

void exempt(const moue::testing::law_report& says, const moue::testing::law_report& does_not, const std::string& law,
            const std::string& said) {
  CHECK_MESSAGE(bool(says), says.summary());
  CHECK(contains(says.summary(), "not checked, since it says " + said));
  CHECK_MESSAGE(does_not.broke(law), does_not.summary());
  CHECK(!contains(does_not.summary(), "not checked"));
}

}  // namespace

TEST_CASE("a policy says which laws it is not meant to keep") {
  using namespace moue::testing;
  exempt(check_balance_laws(costs<true>{}), check_balance_laws(costs<false>{}),
         "names and order of experts do not matter", "names_matter");
  exempt(check_balance_laws(costs_by_place<true>{}), check_balance_laws(costs_by_place<false>{}),
         "the order of a row does not matter", "names_matter");
  exempt(check_balance_laws(costs_by_token<true>{}), check_balance_laws(costs_by_token<false>{}),
         "the order of tokens does not matter", "tokens_matter");
  const moue::router_shape shape{.tokens = 5, .width = 4, .candidates = 4, .experts = 7};
  exempt(check_score_laws(rounds<true>{}, shape), check_score_laws(rounds<false>{}, shape),
         "backward agrees with central differences", "surrogate_gradient");
  exempt(check_score_laws(pools<true>{}, shape), check_score_laws(pools<false>{}, shape), "tokens are independent",
         "tokens_matter");
  exempt(check_select_laws(takes_last<true>{}), check_select_laws(takes_last<false>{}),
         "the order of the candidates does not matter", "names_matter");
  exempt(check_select_laws(takes_last<true>{}, {.columns_matter = true}),
         check_select_laws(takes_last<false>{}, {.columns_matter = true}), "ties go to the lowest expert id",
         "takes_best = false");
  exempt(check_gate_laws(straight_through<true>{}), check_gate_laws(straight_through<false>{}),
         "backward agrees with central differences", "surrogate_gradient");
}

namespace {

/// `seen_loss` with half its gradient.
struct half_gradient : test::seen_loss {
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& frame, vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto&) const {
    ops.each_row(1, test::seen::gradient<C>{frame, scale, add, C(0.5)});
  }
};

}  // namespace

TEST_CASE("layer losses have laws, too") {
  const auto report = moue::testing::check_balance_laws(test::seen_loss{});
  CHECK_MESSAGE(bool(report), report.summary());
  CHECK(moue::testing::check_balance_laws(half_gradient{})
            .broke("gradients of a model with the layer loss agree with central differences"));
}
