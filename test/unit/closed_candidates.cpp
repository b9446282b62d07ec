// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Closed candidates behind the others change no bit, whichever stages a router is made of: what conversions rely on.

#include <doctest/doctest.h>

#include <string>

#include "moue/balance/z_loss.hpp"
#include "moue/router/gate.hpp"
#include "moue/router/group_limited.hpp"
#include "moue/router/preference.hpp"
#include "moue/router/probability.hpp"
#include "moue/router/sparsemixer.hpp"
#include "moue/router/top_k.hpp"
#include "moue/testing/extension_laws.hpp"

namespace {

template <class T>
void obeys(const T& stage) {
  for (const moue::index_t candidates : {1, 2, 3, 6, 8, 17, 64}) {
    const auto report = moue::testing::check_extension_laws(stage, candidates);
    CHECK_MESSAGE(static_cast<bool>(report), report.summary());
  }
}

template <class T>
void breaks(const T& stage, const std::string& law) {
  const auto report = moue::testing::check_extension_laws(stage);
  CHECK_MESSAGE(report.broke(law), report.summary());
}

/// Gates, probabilities and scores that see how many candidates there are, from the back or the front.
struct counting_gate : moue::softmax_then_select {
  bool back = false;
  template <class C>
  void forward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
               moue::vector_view<C> gates) const {
    softmax_then_select::forward(logits, selected, gates);
    if (!back)
      for (auto& g : gates) g *= C(logits.size);
  }
  template <class C>
  void backward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
                moue::vector_view<const C> gates, moue::vector_view<const C> dgates,
                moue::vector_view<C> dlogits) const {
    softmax_then_select::backward(logits, selected, gates, dgates, dlogits);
    if (back) dlogits[dlogits.size - 1] += C(1);
  }
};
struct smoothed_probability : moue::softmax_probability {
  template <class C>
  void forward(moue::vector_view<const C> logits, moue::vector_view<C> p) const {
    softmax_probability::forward(logits, p);
    for (auto& v : p) v = C(0.9) * v + C(0.1) / C(p.size);
  }
};
struct centred_logits {
  template <class C>
  void operator()(moue::vector_view<const C> logits, const auto&, moue::vector_view<C> scores) const {
    for (moue::index_t j = 0; j < logits.size; ++j) scores[j] = logits[j] - C(0.01) * C(logits.size);
  }
};
struct half_of_all {
  constexpr moue::index_t max_selected(moue::index_t n) const { return (n + 1) / 2; }
  template <class C>
  moue::index_t operator()(moue::vector_view<const C> scores, moue::vector_view<const std::int32_t> candidates,
                           moue::vector_view<std::int32_t> selected) const {
    return moue::top_k{max_selected(scores.size)}(scores, candidates, selected);
  }
};

}  // namespace

TEST_CASE("gates do not see closed candidates behind") {
  obeys(moue::softmax_of_selected{});
  obeys(moue::softmax_of_selected{1.5});
  obeys(moue::softmax_then_select{});
  obeys(moue::softmax_then_select{16});
  obeys(moue::sigmoid_gate{1.5});
  obeys(moue::sigmoid_renormalised{2.5});
  obeys(moue::sparsemixer{});
  obeys(moue::sparsemixer{0.4});
}

TEST_CASE("selections do not see closed candidates behind") {
  obeys(moue::top_k{1});
  obeys(moue::top_k<3>{});
  obeys(moue::top_k{99});
  for (const moue::index_t best : {1, 2, 5}) {
    obeys(moue::group_limited{3, {.size = 2, .allowed = 2, .best = best}});
    obeys(moue::group_limited{8, {.size = 4, .allowed = 1, .best = best}});
    obeys(moue::group_limited{8, {.size = 8, .allowed = 4, .best = best}});
  }
}

TEST_CASE("probabilities and preferences do not see closed candidates behind") {
  obeys(moue::softmax_probability{});
  obeys(moue::sigmoid_probability{});
  obeys(moue::by_logits{});
  obeys(moue::biased_logits{});
  obeys(moue::biased_sigmoid{});
  obeys(moue::biased_softmax{});
}

TEST_CASE_TEMPLATE("the z loss does not see closed candidates behind", C, float, double) {
  const moue::z_loss loss{0.3};
  for (const moue::index_t candidates : {1, 3, 8, 17})
    for (const moue::index_t more : {1, 5, 67}) {
      const auto rows = moue::testing::detail::extension_cases<C>(candidates);
      const auto longer_rows = moue::testing::detail::extended(rows, more);
      for (moue::index_t i = 0; i < rows.rows(); ++i) {
        moue::testing::detail::watched<C> d(1, candidates, C(0.75)), longer(1, candidates + more, C(0.75));
        loss.token_gradient(rows.row(i), {}, C(0.7), d.row());
        loss.token_gradient(longer_rows.row(i), {}, C(0.7), longer.row());
        CHECK(loss.token_value(rows.row(i), {}) == loss.token_value(longer_rows.row(i), {}));
        moue::testing::law_report report("z loss");
        moue::testing::detail::expect_extension(report, "gradient", "d logit", i, d, longer, C(0.75));
        CHECK_MESSAGE(static_cast<bool>(report), report.summary());
      }
    }
}

TEST_CASE("stages that do see them are named") {
  breaks(counting_gate{}, "closed candidates behind change no gate");
  breaks(counting_gate{{}, true}, "closed candidates behind change no gradient");
  breaks(smoothed_probability{}, "closed candidates behind change no probability");
  breaks(centred_logits{}, "closed candidates behind change no score");
  breaks(half_of_all{}, "closed candidates behind change no selection");
}
