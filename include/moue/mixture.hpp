// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Mixture: the description of a depth of mixture layers, put together from five values.

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend.hpp"
#include "moue/balance.hpp"
#include "moue/executor.hpp"
#include "moue/executor/checks.hpp"
#include "moue/expert.hpp"
#include "moue/mixture/arguments.hpp"
#include "moue/parameter.hpp"
#include "moue/pass_options.hpp"
#include "moue/router/compose.hpp"
#include "moue/router/stages.hpp"
#include "moue/topology.hpp"
#include "moue/topology/connectivity.hpp"

namespace moue::inline v0_1 {

template <class MixtureT, Storage S>
class pass;
namespace detail {
template <class MixtureT, Storage S>
struct pass_memory;
}

/// Expert (or `expert_pool`), topology, router, balancing loss and backend as values. Immutable, owns no weights and no
/// batch state, and may be shared by any number of threads. A batch runs through it by a `pass`.
template <class ExpertT, class TopologyT, class RouterT, class LossT = no_balancing, class BackendT = cpu>
class mixture {
  static_assert(detail::check_arguments<ExpertT, TopologyT, RouterT, LossT, BackendT>());
  static_assert(detail::check_experts_of<ExpertT>::run());
  static_assert(check_topology<TopologyT>());
  static_assert(check_router<RouterT>());
  static_assert(check_balance<LossT>());
  static_assert(check_backend<BackendT>());

 public:
  using expert_type = ExpertT;                        ///< of one expert, or an `expert_pool`
  using topology_type = TopologyT;                    ///< as it was given
  using router_type = RouterT;                        ///< as it was given
  using loss_type = LossT;                            ///< as it was given; `no_balancing` by default
  using backend_type = BackendT;                      ///< as it was given; `cpu` by default
  using executor_type = executor<ExpertT, BackendT>;  ///< what runs the experts

  /// Lowers the topology and lists the parameters. Throws if the topology breaks its laws.
  mixture(ExpertT expert, TopologyT topology, RouterT router, LossT loss = {}, BackendT backend = {})
      : expert_(expert),
        topology_(std::move(topology)),
        router_(std::move(router)),
        loss_(std::move(loss)),
        connectivity_(topology_),
        executor_(std::move(expert), connectivity_.experts(), std::move(backend)),
        layout_(describe()),
        state_width_(state_of_layer(0)) {
    detail::each_part(loss_, [](const auto& part, index_t) { detail::check_weight(part); });
  }

  /// Columns of what goes in and comes out of a layer.
  index_t width() const { return executor_.width(); }
  /// Layers of the whole depth: visits, in the order they are made.
  index_t layers() const { return connectivity_.layers(); }
  /// Physical experts.
  index_t experts() const { return connectivity_.experts(); }

  /// The topology it was made of.
  const TopologyT& topology() const& { return topology_; }
  /// The router it was made of.
  const RouterT& router() const& { return router_; }
  /// The balancing loss it was made of.
  const LossT& loss() const& { return loss_; }
  /// The experts, for ids and gates from anywhere.
  const executor_type& experts_executor() const& { return executor_; }
  /// The backend it runs on.
  const BackendT& backend() const& { return executor_.backend(); }
  /// The topology as tables.
  const moue::connectivity& connections() const& { return connectivity_; }
  // References into what is gone at the end of the line.
  void topology() const&& = delete;
  void router() const&& = delete;
  void loss() const&& = delete;
  void experts_executor() const&& = delete;
  void backend() const&& = delete;
  void connections() const&& = delete;

  /// Every parameter's name, shape and place. Shared, so that it outlives the mixture.
  std::shared_ptr<const parameter_layout> layout() const { return layout_; }

  /// Fresh weights, owned, filled as the policies declare. Equal seeds give equal weights everywhere.
  template <Storage S>
  parameters<S> initialize(std::uint64_t seed) const {
    parameters<S> values(layout_);
    moue::initialize(values, seed);
    return values;
  }

  /// Bytes of workspace that a pass needs. Include `moue/pass.hpp` to call it.
  template <Storage S>
  std::size_t workspace_bytes(const pass_options& options) const {
    arena counter;
    detail::pass_memory<mixture, S>(*this, options, counter);
    return counter.bytes();
  }

  /// A pass over `weights` in `scratch`; both, and the mixture, must outlive it. Include `moue/pass.hpp` to call it.
  template <Storage S>
  pass<mixture, S> start(const parameters<S>& weights, const pass_options& options, workspace& scratch) const& {
    return pass<mixture, S>(*this, weights, options, scratch);
  }
  template <Storage S>
  void start(const parameters<S>& weights, const pass_options& options, workspace& scratch) const&& = delete;
  template <Storage S>
  void start(const parameters<S>&& weights, const pass_options& options, workspace& scratch) const = delete;

  /// Goes on with a pass that was put down, here or elsewhere: `scratch` holds a copy of the `bytes` of its workspace (as
  /// many as there is room for, if the number of threads is another), and the options are the same. What a pass only
  /// views is given again: weights, the side inputs of the batch (but for the mask, which lies in the workspace), and
  /// external inputs by `pass::rebind_input`.
  template <Storage S>
  pass<mixture, S> resume(const parameters<S>& weights, const pass_options& options, workspace& scratch,
                          const pass_position& position, const side_inputs& inputs = {}) const& {
    return pass<mixture, S>(*this, weights, options, scratch, position, inputs);
  }
  template <Storage S>
  void resume(const parameters<S>& weights, const pass_options& options, workspace& scratch,
              const pass_position& position, const side_inputs& inputs = {}) const&& = delete;
  template <Storage S>
  void resume(const parameters<S>&& weights, const pass_options& options, workspace& scratch,
              const pass_position& position, const side_inputs& inputs = {}) const = delete;

  /// The same description on another backend; layouts agree, so weights can be shared.
  template <class OtherT>
  mixture<ExpertT, TopologyT, RouterT, LossT, OtherT> on(OtherT other) const {
    return {expert_, topology_, router_, loss_, std::move(other)};
  }

  /// Width of the depth state that router stages carry from layer to layer; 0 if none does.
  index_t state_width() const { return state_width_; }

  /// Sizes as router stages of `layer` see them. Scores see the width of the features.
  router_shape features_shape(index_t layer, index_t tokens) const {
    return {tokens, width(), static_cast<index_t>(connectivity_.candidates(layer).size()), experts()};
  }
  /// Sizes as the score of `layer` sees them: its width is that of the features.
  router_shape score_shape(index_t layer, index_t tokens) const {
    auto shape = features_shape(layer, tokens);
    shape.width = router_.features.width(width());
    return shape;
  }
  /// Scratch of the features, the score and the selection, as a pass lays it out.
  auto stage_temporaries(index_t layer, index_t tokens) const {
    return detail::join_arrays(detail::stage_temporaries(router_.features, features_shape(layer, tokens)),
                               detail::stage_temporaries(router_.score, score_shape(layer, tokens)),
                               detail::stage_temporaries(router_.select, score_shape(layer, tokens)));
  }
  /// Columns of the matrices that the features and then the score save of a layer.
  auto stage_saved(index_t layer) const {
    return detail::join_arrays(detail::stage_saved(router_.features, features_shape(layer, 0)),
                               detail::stage_saved(router_.score, score_shape(layer, 0)));
  }
  /// Columns that the score makes beside the logits of a layer.
  index_t extra(index_t layer) const { return detail::stage_extra(router_.score, score_shape(layer, 0)); }

 private:
  /// −1 if a stage declares less than nothing.
  index_t state_of_layer(index_t layer) const {
    const index_t of_features = detail::stage_state_width(router_.features, features_shape(layer, 0));
    const index_t of_score = detail::stage_state_width(router_.score, score_shape(layer, 0));
    return of_features < 0 || of_score < 0 ? -1 : of_features + of_score;
  }
  std::shared_ptr<const parameter_layout> describe() const {
    auto layout = std::make_shared<parameter_layout>();
    const auto router_specs = [&](index_t layer) {
      return detail::router_parameters(router_, features_shape(layer, 0), score_shape(layer, 0));
    };
    const index_t features = router_.features.width(width());
    const index_t state = state_of_layer(0);
    detail::require(
        features > 0 && features <= detail::largest_width && state >= 0 && state <= detail::largest_width, "mixture",
        [&] {
          return "the stages of its router declare " + std::to_string(features) + " features and a state of width " +
                 std::to_string(state);
        },
        "declare 1 feature or more and a state of 0 or more, each up to 2^40");
    for (index_t layer = 1; layer < layers(); ++layer)
      detail::require(
          state_of_layer(layer) == state, "mixture",
          [&] {
            return "the depth state is " + std::to_string(state) + " wide at layer 0 and " +
                   std::to_string(state_of_layer(layer)) + " at layer " + std::to_string(layer);
          },
          "let state_width say the same for every layer, or give all layers as many candidates");
    using stages_type = detail::router_stages<RouterT>;
    const auto selected = router_specs(0).size();
    for (index_t layer = 0; layer < layers(); ++layer) {
      const auto specs = router_specs(layer);
      for (std::size_t i = 0; i != stages_type::row_gradients; ++i) {
        const auto& spec = specs[stages_type::place_of_row_gradient(i)];
        detail::require(
            spec.rows == 1, "mixture",
            [&] { return "parameter '" + std::string(spec.name) + "' has " + std::to_string(spec.rows) + " rows"; },
            "give the parameters of transforms and gates one row: their gradients are made token by token");
      }
      detail::require(
          extra(layer) >= 0 && extra(layer) <= detail::largest_width, "mixture",
          [&] { return "its score declares " + std::to_string(extra(layer)) + " extra columns"; },
          "declare 0 or more, up to 2^40");
    }
    std::vector<index_t> places(static_cast<std::size_t>(layers()) * selected, -1);
    std::set<std::string> names;
    const auto add = [&](const std::string& prefix, const parameter_spec& spec, index_t layer) {
      detail::require(
          !spec.name.empty(), "mixture", [&] { return "a parameter of '" + prefix + "' has an empty name"; },
          "give every parameter of a stage a name");
      std::string name = prefix + std::string(spec.name);
      detail::require(
          names.insert(name).second, "mixture", [&] { return "two parameters are called '" + name + "'"; },
          "give the stages of a router distinct parameter names");
      return layout->add(std::move(name), spec, layer, -1);
    };
    for (std::size_t i = 0; i < selected; ++i) {
      const auto spec = router_specs(0)[i];
      if (spec.per != scope::model) continue;
      const index_t place = add("router.", spec, -1);
      for (index_t layer = 0; layer < layers(); ++layer) places[static_cast<std::size_t>(layer) * selected + i] = place;
    }
    for (index_t layer = 0; layer < layers(); ++layer) {
      const index_t owner = connectivity_.parameter_layer(layer);
      detail::require(
          owner >= 0 && owner <= layer &&
              connectivity_.candidates(owner).size() == connectivity_.candidates(layer).size(),
          "mixture",
          [&] { return "layer " + std::to_string(layer) + " uses the router of layer " + std::to_string(owner); },
          "tie routers only to an earlier layer with as many candidates");
      for (std::size_t i = 0; i < selected; ++i) {
        const auto spec = router_specs(layer)[i];
        if (spec.per == scope::model) continue;
        places[static_cast<std::size_t>(layer) * selected + i] =
            owner == layer ? add("layers." + std::to_string(layer) + ".router.", spec, layer)
                           : places[static_cast<std::size_t>(owner) * selected + i];
      }
    }
    layout->set_router(static_cast<index_t>(selected), std::move(places));
    executor_.describe(*layout);
    return layout;
  }

  ExpertT expert_;
  TopologyT topology_;
  RouterT router_;
  LossT loss_;
  moue::connectivity connectivity_;
  executor_type executor_;
  std::shared_ptr<const parameter_layout> layout_;
  index_t state_width_;
};

template <class E, class T, class R>
mixture(E, T, R) -> mixture<E, T, R>;
template <class E, class T, class R, class L>
mixture(E, T, R, L) -> mixture<E, T, R, L>;
template <class E, class T, class R, class L, class B>
mixture(E, T, R, L, B) -> mixture<E, T, R, L, B>;

}  // namespace moue::inline v0_1
