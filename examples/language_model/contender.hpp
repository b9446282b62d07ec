// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The models that compete, and the way from names given at run time to types.

#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "moue/moue.hpp"
#include "recipe.hpp"

namespace language_model {

enum class model_kind : std::uint32_t { moe, moe_shared, moue };
enum class topology_kind : std::uint32_t { layer_local, staggered_rotation, shared_pool, reuse_blocks, adjacent_reuse };
enum class router_kind : std::uint32_t { linear, normalised, universal };

template <class Kind>
struct names_of;
template <>
struct names_of<model_kind> {
  static constexpr std::array<std::string_view, 3> all{"moe", "moe_shared", "moue"};
};
template <>
struct names_of<topology_kind> {
  static constexpr std::array<std::string_view, 5> all{"layer_local", "staggered_rotation", "shared_pool",
                                                       "reuse_blocks", "adjacent_reuse"};
};
template <>
struct names_of<router_kind> {
  static constexpr std::array<std::string_view, 3> all{"linear", "normalised", "universal"};
};

template <class Kind>
std::string_view name_of(Kind kind) {
  return names_of<Kind>::all[static_cast<std::size_t>(kind)];
}
template <class Kind>
std::optional<Kind> kind_called(std::string_view name) {
  for (std::size_t i = 0; i < names_of<Kind>::all.size(); ++i)
    if (names_of<Kind>::all[i] == name) return static_cast<Kind>(i);
  return std::nullopt;
}

/// All that decides a run, apart from the text. Plain numbers: checkpoints store it as it is.
struct run_config {
  model_kind model = model_kind::moue;
  topology_kind topology = topology_kind::staggered_rotation;
  router_kind router = router_kind::universal;
  std::uint32_t reserved = 0;
  std::int64_t steps = default_steps;
  std::int64_t warm_up = 0;
  double learning_rate = 0;
  std::uint64_t seed = 1;
};
static_assert(std::is_trivially_copyable_v<run_config> && sizeof(run_config) == 48);  // no padding to store

inline recipe tuned(model_kind model) {
  if (model == model_kind::moe) return tuned_moe;
  return model == model_kind::moe_shared ? tuned_moe_shared : tuned_moue;
}

/// A contender with its own topology, router and tuned recipe.
inline run_config contender(model_kind model, std::int64_t steps, std::uint64_t seed) {
  run_config config;
  config.model = model;
  config.topology = model == model_kind::moue ? topology_kind::staggered_rotation : topology_kind::layer_local;
  config.router = model == model_kind::moue ? router_kind::universal : router_kind::linear;
  config.steps = steps;
  config.seed = seed;
  config.learning_rate = tuned(model).learning_rate;
  config.warm_up = std::lround(tuned(model).warm_up * static_cast<double>(steps));
  return config;
}

inline constexpr moue::index_t model_depth = 6;
inline constexpr moue::index_t model_width = 64;
inline constexpr moue::index_t physical_experts = 24;
inline constexpr moue::index_t active_experts = 2;

/// Experts that every token of a layer uses. `moe_shared` turns one of a layer's four experts into such a one and routes
/// to one of the other three: as many physical experts, and two active ones, as the contenders without it.
inline moue::index_t shared_per_layer(const run_config& config) {
  return config.model == model_kind::moe_shared ? 1 : 0;
}

/// A topology over a pool, as a table, so that the choice does not multiply types. The pool must be a multiple of the
/// depth.
inline moue::table topology_over(topology_kind kind, moue::index_t pool) {
  const moue::index_t per_layer = pool / model_depth;
  switch (kind) {
    case topology_kind::layer_local:
      return moue::table::of(moue::layer_local{model_depth, per_layer});
    case topology_kind::shared_pool:
      return moue::table::of(moue::shared_pool{model_depth, pool});
    case topology_kind::reuse_blocks:
      return moue::table::of(moue::reuse_blocks{model_depth, per_layer, 2});
    case topology_kind::adjacent_reuse:
      return moue::table::of(moue::adjacent_reuse{model_depth, per_layer, 1});
    case topology_kind::staggered_rotation:
      break;
  }
  return moue::table::of(moue::staggered_rotation{
      .depth = model_depth, .pool = pool, .window = pool * 2 / 3, .stride = per_layer});  // of 24: 16 and 4
}

/// The routed experts of a contender.
inline moue::table routed_topology(const run_config& config) {
  return topology_over(config.topology, physical_experts - model_depth * shared_per_layer(config));
}

/// A gate stage of one's own, which joins two of the library's: the selected gates sum to 1, except where one expert is
/// routed to, whose gate would then always be 1 and teach the router nothing.
struct example_gate {
  moue::softmax_of_selected several;
  moue::softmax_then_select single;
  bool one = false;

  void forward(auto logits, auto selected, auto gates) const {
    one ? single.forward(logits, selected, gates) : several.forward(logits, selected, gates);
  }
  void backward(auto logits, auto selected, auto gates, auto dgates, auto dlogits) const {
    one ? single.backward(logits, selected, gates, dgates, dlogits)
        : several.backward(logits, selected, gates, dgates, dlogits);
  }
};

/// The example's mixture: one type for each `score`.
template <class ScoreT>
auto make_mixture(const run_config& config, ScoreT score, double switch_weight, double universal_weight, double gamma) {
  const moue::index_t routed = active_experts - shared_per_layer(config);
  return moue::mixture{moue::mlp<moue::silu>{model_width, model_width},
                       moue::always_on{routed_topology(config), shared_per_layer(config)},
                       moue::router{score, moue::top_k{routed}, example_gate{{}, {}, routed == 1}},
                       moue::sum_of_losses{moue::switch_loss{.weight = switch_weight},
                                           moue::universal_balance{.weight = universal_weight, .gamma = gamma}},
                       moue::cpu{}};
}

/// Calls `f` with the mixture that `config` describes. Layers that share nothing are balanced one by one, all others over
/// the whole depth.
template <class F>
auto with_mixture(const run_config& config, F&& f) {
  const bool shares = config.topology != topology_kind::layer_local;
  const auto run = [&](auto score) {
    return f(make_mixture(config, score, shares ? 0 : balance_weight, shares ? balance_weight : 0, 1));
  };
  switch (config.router) {
    case router_kind::linear:
      return run(moue::linear_score{});
    case router_kind::normalised:
      return run(moue::normalised_score{});
    case router_kind::universal:
      break;
  }
  return run(moue::score_sum{moue::keyed_score{}, moue::trajectory{}});
}

}  // namespace language_model
