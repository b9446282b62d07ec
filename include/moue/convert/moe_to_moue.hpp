// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A mixture with more connections made from a mixture, without changing a bit of what it computes.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/convert/carry.hpp"
#include "moue/convert/plan.hpp"
#include "moue/convert/rows.hpp"
#include "moue/convert/schedule.hpp"
#include "moue/error.hpp"
#include "moue/mixture.hpp"
#include "moue/router/compose.hpp"
#include "moue/router/extended_score.hpp"
#include "moue/router/stages.hpp"

namespace moue::inline v0_1::convert {
namespace detail {

template <class MixtureT>
typename MixtureT::expert_type expert_of(const MixtureT& model) {
  if constexpr (moue::detail::is_expert_pool<typename MixtureT::expert_type>)
    return model.experts_executor().pool();
  else
    return model.experts_executor().pool().template kind<0>();
}

inline void require_plan(const plan& given, const connectivity& source) {
  const auto begins_with = [](std::span<const index_t> row, std::span<const std::int32_t> ids) {
    return std::ranges::equal(row, ids, [](index_t a, std::int32_t b) { return a == b; });
  };
  bool fits = given.layers() == source.layers() && given.topology.experts() == source.experts() && given.home >= 0;
  for (index_t layer = 0; fits && layer < source.layers(); ++layer)
    fits = given.home <= static_cast<index_t>(given.candidates(layer).size()) &&
           begins_with(given.own(layer), source.candidates(layer)) &&
           begins_with(given.topology.shared[static_cast<std::size_t>(layer)], source.always(layer));
  moue::detail::require(
      fits, where, [] { return std::string("the plan was made for another topology"); },
      "make it from the source's: extend(source.topology(), universal, target)");
}

template <class MixtureT, class ScoreT>
auto rewired(const MixtureT& source, const plan& given, ScoreT score) {
  require_plan(given, source.connections());
  const auto& old = source.router();
  return mixture{expert_of(source), given.topology,
                 router{std::move(score), old.select, old.gate, old.features, old.preference, old.probability,
                        old.transform, old.on_non_finite},
                 source.loss(), source.backend()};
}

}  // namespace detail

/// `source` with the connections of `given`: the same experts, loss, backend, gate, selection and so on, and its score
/// extended by linear rows for the foreign candidates (`extended_score`).
template <class E, class T, class R, class L, class B>
auto moe_to_moue(const mixture<E, T, R, L, B>& source, const plan& given) {
  const R& old = source.router();
  return detail::rewired(source, given, extended_score{old.score, given.home});
}

/// The same with a term of yours added to the logits, such as `foreign_bias{plan.home}`.
template <class E, class T, class R, class L, class B, ScoreStage TermT>
auto moe_to_moue(const mixture<E, T, R, L, B>& source, const plan& given, TermT term) {
  const R& old = source.router();
  return detail::rewired(source, given, score_sum{extended_score{old.score, given.home}, std::move(term)});
}

/// The rows [candidates, features] by which `layer` scores its candidates: the logits of unit vectors less those of the
/// zero vector, with depth state zero. Exact for scores that are linear in the features, which all of this library's
/// are; a candidate whose bias is minus infinity gets zeros. O(features² candidates) for linear scores.
template <class MixtureT, Storage S>
std::vector<compute_t<S>> score_rows(const MixtureT& model, const parameters<S>& weights, index_t layer) {
  using C = compute_t<S>;
  using stages_type = moue::detail::router_stages<typename MixtureT::router_type>;
  const auto ids = model.connections().candidates(layer);
  const auto n = static_cast<index_t>(ids.size());
  const index_t width = model.score_shape(layer, 0).width;
  const index_t tokens = width + 1;  // the last is the zero vector
  const index_t state = model.state_width();
  std::vector<C> features(static_cast<std::size_t>(tokens * width), C(0));
  for (index_t j = 0; j < width; ++j) features[static_cast<std::size_t>(j * width + j)] = C(1);
  std::vector<C> logits(static_cast<std::size_t>(tokens * n)), none(static_cast<std::size_t>(tokens * state), C(0));
  const std::vector<std::uint8_t> valid(static_cast<std::size_t>(tokens), 1);

  std::array<matrix_view<const S>, stages_type::parameters> p;
  for (std::size_t i = 0; i < p.size(); ++i) p[i] = weights[model.layout()->router(layer, static_cast<index_t>(i))];
  const auto shapes = model.stage_temporaries(layer, tokens);
  std::vector<std::vector<C>> buffers;
  std::array<matrix_view<C>, stages_type::temporaries> temporary;
  for (std::size_t i = 0; i < temporary.size(); ++i) {
    buffers.emplace_back(static_cast<std::size_t>(shapes[i].rows * shapes[i].cols));
    temporary[i] = {buffers.back().data(), shapes[i].rows, shapes[i].cols};
  }
  router_frame<C> frame;
  frame.candidates = {ids.data(), n};
  frame.batch.valid = {valid.data(), tokens};
  frame.features = {features.data(), tokens, width};
  frame.logits = {logits.data(), tokens, n};
  std::vector<C> extra(static_cast<std::size_t>(tokens * model.extra(layer)));
  frame.extra = {extra.data(), tokens, model.extra(layer)};
  frame.next_state = {none.data(), tokens, state};  // stays as it is: only `advance` assigns it
  frame.state = frame.next_state;
  stages_type(model.router()).make_logits(reference_operations{}, frame, p, temporary);

  std::vector<C> rows(static_cast<std::size_t>(n * width));
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < width; ++j) {
      const C offset = frame.logits(width, i);
      rows[static_cast<std::size_t>(i * width + j)] =
          offset == moue::detail::minus_infinity<C>() ? C(0) : frame.logits(j, i) - offset;
    }
  return rows;
}

/// Sets the foreign rows of `weights`, which belong to the conversion of `source` by `given`, as `policy` says.
template <class MixtureT, Storage S, RowPolicy<compute_t<S>> PolicyT>
void fill_rows(const MixtureT& source, const parameters<S>& source_weights, const plan& given, const PolicyT& policy,
               parameters<S>& weights) {
  using C = compute_t<S>;
  detail::require_plan(given, source.connections());
  if constexpr (std::is_same_v<PolicyT, fresh_rows>) return;
  const index_t width = source.score_shape(0, 0).width;
  std::vector<std::vector<C>> rows;
  for (index_t layer = 0; layer < source.layers(); ++layer) rows.push_back(score_rows(source, source_weights, layer));
  const std::vector<C> homeless(static_cast<std::size_t>(width), C(0));
  const auto kin = [&](index_t expert) -> const C* {
    const index_t layer = given.home_of(expert);
    if (layer < 0) return homeless.data();
    const auto own = given.own(layer);
    return rows[static_cast<std::size_t>(layer)].data() + (std::ranges::find(own, expert) - own.begin()) * width;
  };
  std::vector<C> row(static_cast<std::size_t>(width));
  for (index_t layer = 0; layer < source.layers(); ++layer) {
    if (given.topology.parameter_layer(layer) != layer) continue;
    const auto foreign = weights["layers." + std::to_string(layer) + ".router.foreign"];
    for (index_t i = 0; i < foreign.rows; ++i) {
      for (index_t j = 0; j < width; ++j) row[static_cast<std::size_t>(j)] = static_cast<C>(foreign(i, j));
      policy(row_source<C>{{rows[static_cast<std::size_t>(layer)].data(), given.home, width},
                           {kin(given.foreign(layer)[static_cast<std::size_t>(i)]), width}},
             vector_view<C>{row.data(), width});
      for (index_t j = 0; j < width; ++j) foreign(i, j) = S(row[static_cast<std::size_t>(j)]);
    }
  }
}

/// Weights of `converted`, which is `source` extended by `given`: the source's numbers, foreign rows by `policy` (random
/// ones drawn from `seed`), every foreign connection closed.
template <class TargetT, class SourceT, Storage S, class PolicyT = zero_rows>
parameters<S> start(const TargetT& converted, const SourceT& source, const parameters<S>& source_weights,
                    const plan& given, const PolicyT& policy = {}, std::uint64_t seed = 0) {
  auto weights = converted.template initialize<S>(seed);
  carry(source_weights, weights);
  fill_rows(source, source_weights, given, policy, weights);
  set_openings(weights, closed);
  return weights;
}

}  // namespace moue::inline v0_1::convert
