// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Routing by token id alone (Roller et al., arXiv 2106.04426): a score stage that reads what the batch brings beside
// activations.

#include <cstdio>
#include <limits>
#include <moue/moue.hpp>
#include <vector>

/// Opens one candidate per token, chosen by its id, and closes all others. No parameters and no gradient.
struct hash_score {
  template <class C>
  void forward(const auto&, const moue::router_frame<C>&, const auto&, const auto&) const {}  // logits of 0
  template <class C>
  void close(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    const auto ids = frame.batch.token_ids;
    if (ids.size != frame.logits.rows)
      throw moue::error("hash_score", "the batch has no token ids", "pass them to begin as '.token_ids'");
    ops.each_element(frame.logits.rows, frame.logits.cols, [=](moue::index_t t, moue::index_t column) {
      const auto hash = static_cast<std::uint32_t>(ids[t]) * 2654435769u >> 16;
      if (static_cast<moue::index_t>(hash % static_cast<std::uint32_t>(frame.logits.cols)) != column)
        frame.logits(t, column) = -std::numeric_limits<C>::infinity();
    });
  }
  template <class C>
  void backward(const auto&, const moue::router_frame<C>&, const moue::router_gradient<C>&, const auto&, const auto&,
                const auto&) const {}
};
static_assert(moue::ScoreStage<hash_score>);

int main() {
  const moue::index_t tokens = 6, width = 4;
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 8}, moue::layer_local{.depth = 1, .per_layer = 4},
                            moue::router{hash_score{}, moue::top_k<1>{}, moue::softmax_of_selected{}}};
  const auto weights = model.initialize<float>(6);
  const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  const std::vector<std::int64_t> ids{17, 4, 17, 99, 4, 17};
  std::vector<float> x(tokens * width, 1), y(x.size());
  pass.begin(tokens, {.token_ids = {ids.data(), tokens}});
  pass.forward(0, {x.data(), tokens, width}, {y.data(), tokens, width});

  const auto taken = pass.assignments(0);
  bool same = true;
  for (std::size_t a = 0; a < ids.size(); ++a)
    for (std::size_t b = 0; b < ids.size(); ++b)
      same = same && (ids[a] != ids[b] ||
                      taken.expert[static_cast<moue::index_t>(a)] == taken.expert[static_cast<moue::index_t>(b)]);
  std::printf("equal ids go to equal experts: %s\n", same ? "yes" : "no");
  pass.begin(tokens);
  try {
    pass.forward(0, {x.data(), tokens, width}, {y.data(), tokens, width});
  } catch (const moue::error& problem) {
    std::printf("%s\n", problem.what());
  }
}
