// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Balancing losses: one over the statistics of the whole depth, one over single rows, and their sum.

#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>

/// weight · E sum_e (G_e / L)², with G_e the mean probability of expert e summed over the L layers: 1 at balance.
struct probability_balance {
  double weight = 0.01;

  template <class C>
  C value(const moue::depth_statistics<C>& s) const {
    C sum = 0;
    for (const C g : s.expert_probability) sum += g * g;
    return C(weight) * C(s.experts) * sum / C(s.layers * s.layers);
  }
  template <class C>
  void gradient(const moue::depth_statistics<C>& s, moue::vector_view<C> d) const {
    const C factor = C(2 * weight) * C(s.experts) / C(s.layers * s.layers);
    for (moue::index_t i = 0; i < d.size; ++i) d[i] += factor * s.expert_probability[s.candidates[i]];
  }
};
static_assert(moue::DepthLoss<probability_balance>);

/// weight · the mean entropy of p, which must be a softmax of the logits: asks the router to be sure.
struct entropy_loss {
  double weight = 0.001;

  template <class C>
  C token_value(moue::vector_view<const C>, moue::vector_view<const C> p) const {
    return C(weight) * entropy(p);
  }
  template <class C>
  void token_gradient(moue::vector_view<const C>, moue::vector_view<const C> p, C scale,
                      moue::vector_view<C> dlogits) const {
    const C h = entropy(p);
    for (moue::index_t j = 0; j < p.size; ++j)
      if (p[j] > 0) dlogits[j] -= scale * C(weight) * p[j] * (std::log(p[j]) + h);
  }

 private:
  template <class C>
  static C entropy(moue::vector_view<const C> p) {
    C sum = 0;
    for (const C x : p)
      if (x > 0) sum -= x * std::log(x);
    return sum;
  }
};
static_assert(moue::TokenLoss<entropy_loss>);

int main() {
  const auto depth = moue::testing::check_balance_laws(probability_balance{});
  const auto token = moue::testing::check_balance_laws(entropy_loss{});
  for (const auto& report : {depth, token})
    std::printf("%s: laws %s\n", report.subject().c_str(), report ? "hold" : report.summary().c_str());

  const moue::mixture model{moue::copy_expert{.width = 4}, moue::shared_pool{.depth = 2, .pool = 3},
                            moue::linear_router(1),
                            moue::sum_of_losses{probability_balance{.weight = 1}, entropy_loss{.weight = 1}}};
  const moue::parameters<double> zeros(model.layout());  // all logits 0: p is even
  const moue::pass_options options{.tokens = 2};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(zeros, options, scratch);
  double x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  pass.begin(2);
  for (moue::index_t layer = 0; layer < 2; ++layer) pass.forward(layer, {x, 2, 4}, {x, 2, 4});
  std::printf("1 + log 3 = %.4f\n", pass.balance().total);
  return depth && token ? 0 : 1;
}
