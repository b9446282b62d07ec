// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The type that joins the stages of a router, and the routers people name.

#include <utility>

#include "moue/router.hpp"
#include "moue/router/features.hpp"
#include "moue/router/gate.hpp"
#include "moue/router/linear_score.hpp"
#include "moue/router/normalised_score.hpp"
#include "moue/router/preference.hpp"
#include "moue/router/probability.hpp"
#include "moue/router/score_sum.hpp"
#include "moue/router/top_k.hpp"
#include "moue/router/trajectory.hpp"
#include "moue/router/transform.hpp"

namespace moue::inline v0_1 {

/// What to do with a logit, or a preference, that is no finite number, unless its candidate is closed. Ids are distinct and
/// in range in every mode.
enum class non_finite {
  propagate,  ///< it is selected first and shows as NaN in the output
  reject,     ///< the pass throws, naming layer, token and candidate
  /// The candidate is closed for this token. A token whose router input (or depth state) is not finite is taken as padding
  /// by this layer, but counts among its tokens, and its depth state begins again at zero. What is closed enters no sum.
  mask
};

namespace detail {

template <class T>
concept any_stage = ScoreStage<T> || SelectStage<T> || GateStage<T> || FeatureStage<T> || PreferenceStage<T> ||
    ProbabilityStage<T> || TransformStage<T>;

/// Stages that are fine, but stand in each other's place.
template <class Score, class Select, class Gate, class Features, class Preference, class Probability, class Transform>
consteval bool check_order() {
  static_assert(ScoreStage<Score> || !any_stage<Score>,
                "moue: the first stage of a router is its score; this is another stage (the order is score, select, "
                "gate, features, preference, probability, transform)");
  static_assert(SelectStage<Select> || !any_stage<Select>,
                "moue: the second stage of a router is its select stage; this is another stage (the order is score, "
                "select, gate, features, preference, probability, transform)");
  static_assert(GateStage<Gate> || !any_stage<Gate>,
                "moue: the third stage of a router is its gate; this is another stage (the order is score, select, "
                "gate, features, preference, probability, transform)");
  static_assert(FeatureStage<Features> || !any_stage<Features>,
                "moue: the fourth stage of a router is its feature stage; this is another stage (the order is score, "
                "select, gate, features, preference, probability, transform)");
  static_assert(PreferenceStage<Preference> || !any_stage<Preference>,
                "moue: the fifth stage of a router is its preference; this is another stage (the order is score, "
                "select, gate, features, preference, probability, transform)");
  static_assert(ProbabilityStage<Probability> || !any_stage<Probability>,
                "moue: the sixth stage of a router is its probability; this is another stage (the order is score, "
                "select, gate, features, preference, probability, transform)");
  static_assert(TransformStage<Transform> || !any_stage<Transform>,
                "moue: the seventh stage of a router is its transform; this is another stage (the order is score, "
                "select, gate, features, preference, probability, transform)");
  return true;
}

}  // namespace detail

/// A router made of stages. `router{score, select, gate}` reads the layer's input, selects by logits and balances by a
/// softmax; `with` exchanges any other stage.
template <class ScoreT, class SelectT, class GateT, class FeaturesT = input_features, class PreferenceT = by_logits,
          class ProbabilityT = softmax_probability, class TransformT = no_transform>
struct router {
  static_assert(detail::check_order<ScoreT, SelectT, GateT, FeaturesT, PreferenceT, ProbabilityT, TransformT>());
  static_assert(check_score<ScoreT>() && check_select<SelectT>() && check_gate<GateT>() &&
                check_features<FeaturesT>() && check_preference<PreferenceT>() && check_probability<ProbabilityT>() &&
                check_transform<TransformT>());

  ScoreT score;                                      ///< logits
  SelectT select;                                    ///< which candidates a token takes
  GateT gate;                                        ///< their weights
  FeaturesT features = {};                           ///< what the score reads
  PreferenceT preference = {};                       ///< what selection compares
  ProbabilityT probability = {};                     ///< what balancing losses read
  TransformT transform = {};                         ///< of logits, before all but the score read them
  non_finite on_non_finite = non_finite::propagate;  ///< what is done with broken logits

  /// All stages at once; `with` exchanges single ones.
  constexpr router(ScoreT score_stage, SelectT select_stage, GateT gate_stage, FeaturesT features_stage = {},
                   PreferenceT preference_stage = {}, ProbabilityT probability_stage = {},
                   TransformT transform_stage = {}, non_finite mode = non_finite::propagate)
      : score(std::move(score_stage)),
        select(std::move(select_stage)),
        gate(std::move(gate_stage)),
        features(std::move(features_stage)),
        preference(std::move(preference_stage)),
        probability(std::move(probability_stage)),
        transform(std::move(transform_stage)),
        on_non_finite(mode) {}

  /// The same router with another features, preference, probability or transform stage, recognised by its contract.
  template <class StageT>
  constexpr auto with(StageT stage) const {
    static_assert(
        FeatureStage<StageT> || PreferenceStage<StageT> || ProbabilityStage<StageT> || TransformStage<StageT>,
        "moue: 'with' takes a features stage (width, forward, backward), a preference stage (call operator), a "
        "probability stage (forward, backward) or a transform stage (call operator, backward)");
    if constexpr (FeatureStage<StageT>)
      return router<ScoreT, SelectT, GateT, StageT, PreferenceT, ProbabilityT, TransformT>{
          score, select, gate, std::move(stage), preference, probability, transform, on_non_finite};
    else if constexpr (TransformStage<StageT>)
      return router<ScoreT, SelectT, GateT, FeaturesT, PreferenceT, ProbabilityT, StageT>{
          score, select, gate, features, preference, probability, std::move(stage), on_non_finite};
    else if constexpr (PreferenceStage<StageT>)
      return router<ScoreT, SelectT, GateT, FeaturesT, StageT, ProbabilityT, TransformT>{
          score, select, gate, features, std::move(stage), probability, transform, on_non_finite};
    else if constexpr (ProbabilityStage<StageT>)
      return router<ScoreT, SelectT, GateT, FeaturesT, PreferenceT, StageT, TransformT>{
          score, select, gate, features, preference, std::move(stage), transform, on_non_finite};
  }
  /// The same router with another way to treat logits that are not finite.
  constexpr router with(non_finite mode) const {
    router copy = *this;
    copy.on_non_finite = mode;
    return copy;
  }
};

template <class ScoreT, class SelectT, class GateT>
router(ScoreT, SelectT, GateT) -> router<ScoreT, SelectT, GateT>;

/// Linear logits, the k best, softmax over the selected (Mixtral's router).
constexpr auto linear_router(index_t k) { return router{linear_score{}, top_k{k}, softmax_of_selected{}}; }

/// Row-normalised logits, the k best, softmax over the selected.
constexpr auto normalised_router(index_t k) { return router{normalised_score{}, top_k{k}, softmax_of_selected{}}; }

/// The universal router: row-normalised logits from a per-layer offset plus the expert's shared key, plus the trajectory
/// term; the k best; softmax over the selected. This library's formulation (docs/method.md) of the idea in
/// arXiv 2603.04971.
template <SelectStage SelectT>
constexpr auto universal_router(SelectT select, trajectory path = {}) {
  return router{score_sum{keyed_score{}, path}, std::move(select), softmax_of_selected{}};
}
/// The same with `top_k`.
constexpr auto universal_router(index_t k, trajectory path = {}) { return universal_router(top_k{k}, path); }

namespace detail {

template <class T>
inline constexpr bool is_router = false;
template <class... Stages>
inline constexpr bool is_router<router<Stages...>> = true;

}  // namespace detail

/// A router as `mixture` takes it: one composed of stages.
template <class T>
concept Router = detail::is_router<T>;

/// Says how a router is made, if this is none.
template <class T>
consteval bool check_router() {
  static_assert(Router<T>, "moue: compose a router from stages, as in 'moue::router{score, select, gate}'");
  return true;
}

}  // namespace moue::inline v0_1
