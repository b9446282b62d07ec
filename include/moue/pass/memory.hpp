// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The memory of a pass, carved from a workspace: what each visit leaves behind, and scratch that visits share.

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "moue/executor.hpp"
#include "moue/executor/checks.hpp"
#include "moue/mixture.hpp"
#include "moue/pass/statistics.hpp"
#include "moue/routing_counts.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1::detail {

/// What one visit leaves for its backward.
template <class S, class C>
struct visit_record {
  matrix_view<S> x;                    ///< [tokens, width] the experts' input
  matrix_view<S> router_x;             ///< [tokens, width] the router's, if given apart
  matrix_view<C> logits;               ///< [tokens, candidates] as all but the score see them
  matrix_view<C> raw_logits;           ///< [tokens, candidates] as the score made them, if there is a transform
  matrix_view<C> extra;                ///< [tokens, columns] of the score beside its logits
  matrix_view<std::int32_t> selected;  ///< [tokens, max_selected] columns, best first, then −1
  matrix_view<C> gates;                ///< [tokens, max_selected] of the selected columns
  // Assignments: those of the router, [tokens, most + always], until others have run.
  vector_view<index_t> offsets;       ///< [tokens + 1]
  vector_view<std::int32_t> experts;  ///< [entries] physical ids or −1
  vector_view<C> entry_gates;         ///< [entries]
  vector_view<std::int32_t> columns;  ///< [entries] where each gate comes from, or −1
  matrix_view<C> stage_saved;         ///< [tokens, columns] what the router's stages save, side by side
  expert_record<C> run;
};

template <class MixtureT, Storage S>
struct pass_memory {
  using C = compute_t<S>;
  using router_type = typename MixtureT::router_type;
  static constexpr bool own_features = router_stages<router_type>::own_features;
  static constexpr bool converts = !std::is_same_v<S, C>;
  static constexpr bool may_close = router_stages<router_type>::may_close;
  static constexpr bool transforms = router_stages<router_type>::transforms;
  static constexpr bool bounds_entries = has_most_entries<decltype(router_type::select)>;
  static constexpr index_t count_block = 256;  ///< rows whose valid tokens are counted together
  using loss_type = typename MixtureT::loss_type;
  static constexpr bool balances = !std::is_same_v<loss_type, no_balancing>;
  static constexpr bool by_layer = sees_layers<loss_type>;
  static constexpr bool shows = sees_outputs<loss_type>;

  index_t first;                           ///< layer of the range
  index_t end;                             ///< of the range: one past its last layer
  std::uint64_t layout;                    ///< of all but scratch (`arena::layout`), and of the range
  std::vector<visit_record<S, C>> visits;  ///< one per layer of the range in training, else one for all
  std::vector<matrix_view<C>> states;      ///< depth state before each layer and after the last; two in inference
  vector_view<std::uint8_t> valid;
  vector_view<index_t> valid_parts;   ///< valid tokens of each block of rows
  vector_view<index_t> valid_tokens;  ///< [1]
  vector_view<std::uint8_t> usable;   ///< [tokens] valid rows that are not broken, where broken ones are masked

  expert_scratch<C> experts;
  matrix_view<C> router_conversion;
  vector_view<S> finite_weights;  ///< of the router at one layer, where candidates may be closed
  matrix_view<C> x;               ///< [tokens, width] the router's input, if it is converted, masked or looked at later
  matrix_view<C> features;        ///< [tokens, features], if they are not the input itself
  matrix_view<C> scores;
  matrix_view<C> probabilities;
  matrix_view<C> dense_gates;  ///< [tokens, candidates], if a stage keeps state
  vector_view<C> stage_temporaries;

  matrix_view<C> dx;  ///< [tokens, width] from the experts
  matrix_view<C> dinput;
  matrix_view<C> dfeatures;
  matrix_view<C> dlogits;       ///< [tokens, candidates] of those that the score made
  matrix_view<C> dtransformed;  ///< [tokens, candidates] of those that all others see, if there is a transform
  matrix_view<C> dextra;        ///< [tokens, columns] beside them
  /// [tokens, columns] of the parameters of transform and gate, token by token
  std::array<vector_view<C>, router_stages<router_type>::row_gradients> dparameters;
  vector_view<index_t> overflow;  ///< [ranks + 1] how many entries of each rank there are, where they are bounded
  matrix_view<C> dense_dgates;
  matrix_view<C> dgates;                  ///< [tokens, max_selected] of the selected columns
  vector_view<C> dentries;                ///< [entries] of the gates of what ran
  std::array<matrix_view<C>, 2> dstates;  ///< of the depth state before layer l: the one at l % 2
  matrix_view<C> dstate_out;              ///< of the state after the last layer that ran
  matrix_view<C> token_losses;            ///< [tokens, parts]
  vector_view<C> layer_loss;              ///< [parts] values of layer losses, or scales of their gradients
  vector_view<C> layer_temporaries;
  vector_view<std::int64_t> layer_demand, layer_load;  ///< [candidates] of the layer that layer losses look at
  routing_gradient<C> also;                            ///< of one layer, from layer losses

  vector_view<const index_t> offsets;                 ///< [layers + 1] of the candidates below
  vector_view<const std::int32_t> candidates_of_all;  ///< layer after layer
  vector_view<const std::int32_t> always_of_all;
  counts_view<C> counts;
  counts_view<C> given_counts;  ///< of all ranges or ranks, where a loss is asked of them
  statistics_tables<C> tables;
  vector_view<C> loss;          ///< [1 + parts] the balancing loss and its parts
  vector_view<C> dprobability;  ///< [columns]
  vector_view<C> of_part;       ///< [columns] gradients of one part of several
  vector_view<C> given_scales;  ///< [parts, layers]
  matrix_view<C> token_scale;   ///< [layers, parts] what token losses' gradients are multiplied by

  pass_memory(const MixtureT& model, const pass_options& options, arena& memory) {
    if (model.layout() == nullptr)
      throw error("pass", "its mixture was moved from", "start it from the mixture that it was moved to");
    const auto& connections = model.connections();
    const auto& run = model.experts_executor();
    const index_t tokens = options.tokens;
    require(
        tokens >= 0, "pass", [&] { return "it was asked to hold " + std::to_string(tokens) + " tokens"; },
        "ask for 0 or more");
    require(
        tokens <= (std::numeric_limits<std::int32_t>::max)(), "pass",
        [&] { return "it was asked to hold " + std::to_string(tokens) + " tokens"; },
        "split the batch: one pass holds at most 2147483647");
    const bool training = options.how == mode::training;
    const index_t layers = connections.layers();
    require(
        options.first >= 0 && options.first <= layers && (options.count < 0 || options.count <= layers - options.first),
        "pass",
        [&] {
          return (options.count < 0 ? "the layers" : std::to_string(options.count) + " layers") + " from " +
                 std::to_string(options.first) + " on, of " + std::to_string(layers) + ", were asked for";
        },
        "ask for a range of the mixture's layers");
    first = options.first;
    end = options.count < 0 ? layers : first + options.count;
    require(
        options.entries >= 0 && options.entries <= largest_width, "pass",
        [&] { return "it was asked to hold " + std::to_string(options.entries) + " entries"; },
        options.entries < 0 ? "ask for 0 or more" : "ask for fewer");
    const index_t candidates = connections.max_candidates();
    const index_t most = model.router().select.max_selected(candidates);
    const auto at_most = [&](index_t n) {
      const index_t taken = model.router().select.max_selected(n);
      if (taken < 0 || taken > most || taken > (std::numeric_limits<std::int32_t>::max)())
        throw error("pass",
                    "max_selected allows " + std::to_string(taken) + " of " + std::to_string(n) + " candidates and " +
                        std::to_string(most) + " of " + std::to_string(candidates),
                    "let it return 0 or more, no more than 2147483647, and never less for more candidates");
      return taken;
    };
    for (index_t layer = first; layer < end; ++layer) at_most(std::ssize(connections.candidates(layer)));
    const auto entries_of = [&](index_t taken, index_t always) {
      return (std::max)(options.entries, checked_product(tokens, taken + always, "entries"));
    };
    const auto rows_of = [&](index_t n, index_t taken, index_t always) {
      index_t limit = entries_of(taken, always);
      if constexpr (bounds_entries) {
        const index_t selected = model.router().select.most_entries(tokens, n);
        require(
            selected >= 0, "pass",
            [&] {
              return "most_entries allows " + std::to_string(selected) + " entries of " + std::to_string(tokens) +
                     " tokens";
            },
            "let it return 0 or more");
        const index_t bound = (std::min)(selected, tokens * taken) + tokens * always;
        limit = (std::min)(limit, (std::max)(options.entries, bound));
      }
      return limit;
    };
    const index_t entries = entries_of(at_most(candidates), connections.max_always());
    const index_t rows = rows_of(candidates, at_most(candidates), connections.max_always());
    for (index_t layer = bounds_entries ? first : end; layer < end; ++layer) {
      const index_t n = std::ssize(connections.candidates(layer));
      if (rows_of(n, at_most(n), std::ssize(connections.always(layer))) > rows)
        throw error("pass",
                    "most_entries allows more entries of " + std::to_string(n) + " candidates than of " +
                        std::to_string(candidates),
                    "let it return no less for more tokens or candidates");
    }
    const index_t state = model.state_width();
    const index_t backward_tokens = training ? tokens : 0;
    const index_t saved_tokens = options.external_inputs ? 0 : backward_tokens;

    for (index_t layer = first; layer < (training ? end : first + 1); ++layer) {
      const index_t n = training ? static_cast<index_t>(connections.candidates(layer).size()) : candidates;
      const index_t always =
          training ? static_cast<index_t>(connections.always(layer).size()) : connections.max_always();
      const index_t taken = at_most(n);
      const index_t of_layer = entries_of(taken, always);
      visit_record<S, C> visit;
      visit.x = memory.take<S>(saved_tokens, model.width(), "layer inputs");
      visit.router_x = memory.take<S>(options.router_input ? saved_tokens : 0, model.width(), "router inputs");
      visit.logits = memory.take<C>(tokens, n, "logits");
      visit.raw_logits = memory.take<C>(transforms ? tokens : 0, n, "logits before their transform");
      visit.extra = memory.take<C>(tokens, extra_columns(model, layer, training), "columns beside the logits");
      visit.selected = memory.take<std::int32_t>(tokens, taken, "selected columns");
      visit.gates = memory.take<C>(tokens, taken, "gates");
      visit.offsets = memory.take<index_t>(tokens + 1, "routing offsets");
      visit.experts = memory.take<std::int32_t>(of_layer, "selected experts");
      visit.entry_gates = memory.take<C>(of_layer, "gates of entries");
      visit.columns = memory.take<std::int32_t>(of_layer, "columns of entries");
      visit.stage_saved = memory.take<C>(tokens, saved_columns(model, layer, training), "saved by router stages");
      visit.run = run.template take_record<C>(memory, tokens, of_layer, shows, rows_of(n, taken, always));
      visits.push_back(std::move(visit));
    }
    for (index_t i = 0; i < (state == 0 ? 0 : training ? end - first + 1 : 2); ++i)
      states.push_back(memory.take<C>(tokens, state, "depth state"));
    valid = memory.take<std::uint8_t>(tokens, "padding mask");
    valid_parts = memory.take<index_t>((tokens + count_block - 1) / count_block, "valid tokens of blocks");
    valid_tokens = memory.take<index_t>(1, "valid tokens");
    const bool masks = model.router().on_non_finite == non_finite::mask;
    usable = memory.take<std::uint8_t>(masks ? tokens : 0, "usable rows");

    const index_t width = model.width();
    const index_t features_width = model.router().features.width(width);
    finite_weights = memory.take<S>(masks || may_close ? weights_of_layer(model) : 0, "finite router weights");
    x = memory.take<C>(converts || (masks && saved_tokens == 0) || (by_layer && !training) ? tokens : 0, width,
                       "inputs of routers");
    features = memory.take<C>(own_features ? tokens : 0, features_width, "features");
    scores = memory.take<C>(tokens, candidates, "selection scores");
    probabilities = memory.take<C>(balances ? tokens : 0, candidates, "probabilities");
    dense_gates = memory.take<C>(state > 0 ? tokens : 0, candidates, "dense gates");
    index_t temporaries = 0;
    for (index_t layer = 0; layer < layers; ++layer) {
      index_t sum = 0;
      for (const auto& shape : model.stage_temporaries(layer, tokens)) {
        sum += elements(shape);
        if (sum > (std::numeric_limits<index_t>::max)() / 64) refuse_size("router temporaries");
      }
      temporaries = (std::max)(temporaries, sum);
    }
    stage_temporaries = memory.take<C>(temporaries, "router temporaries");

    dx = memory.take<C>(backward_tokens, width, "input gradients");
    dinput = memory.take<C>(backward_tokens, width, "router input gradients");
    dfeatures = memory.take<C>(own_features ? backward_tokens : 0, features_width, "feature gradients");
    dlogits = memory.take<C>(backward_tokens, candidates, "logit gradients");
    dtransformed = memory.take<C>(transforms ? backward_tokens : 0, candidates, "gradients of transformed logits");
    const index_t extra = extra_columns(model, 0, false);
    dextra = memory.take<C>(backward_tokens, extra, "gradients of columns beside the logits");
    for (std::size_t i = 0; i != dparameters.size(); ++i)
      dparameters[i] = memory.take<C>(checked_product(backward_tokens, most_columns(model, i), "parameter gradients"),
                                      "parameter gradients of tokens");
    overflow =
        memory.take<index_t>(bounds_entries ? (std::max)(connections.experts(), most) + 1 : 0, "entries of each rank");
    dense_dgates = memory.take<C>(state > 0 ? backward_tokens : 0, candidates, "dense gate gradients");
    dgates = memory.take<C>(backward_tokens, most, "gate gradients");
    dentries = memory.take<C>(training ? entries : 0, "gradients of entries");
    for (auto& dstate : dstates) dstate = memory.take<C>(backward_tokens, state, "state gradients");
    dstate_out = memory.take<C>(backward_tokens, state, "last state gradients");
    constexpr index_t parts = part_count<loss_type>;
    constexpr index_t token_parts = TokenLoss<loss_type> || by_layer ? parts : 0;
    token_losses = memory.take<C>(TokenLoss<loss_type> ? tokens : 0, parts, "token losses");
    if constexpr (by_layer) {
      layer_loss = memory.take<C>(parts, "layer losses");
      layer_demand = memory.take<std::int64_t>(candidates, "demand of a layer");
      layer_load = memory.take<std::int64_t>(candidates, "load of a layer");
      layer_temporaries = memory.take<C>(
          most_layer_temporaries(model, {tokens, candidates, entries, rows, width, connections.experts()}),
          "temporaries of layer losses");
      also.logits = memory.take<C>(backward_tokens, candidates, "logit gradients of layer losses");
      also.probabilities = memory.take<C>(backward_tokens, candidates, "probability gradients of layer losses");
      also.gates = memory.take<C>(training ? entries : 0, "gate gradients of layer losses");
      also.outputs = memory.take<C>(training && shows ? rows : 0, width, "output gradients of layer losses");
      also.extra = memory.take<C>(backward_tokens, extra, "extra gradients of layer losses");
    }

    const index_t columns = connections.candidate_offset(layers);
    offsets = table(model, memory, connections.candidate_offsets(), "candidate offsets");
    candidates_of_all = table(model, memory, connections.all_candidates(), "candidates");
    always_of_all = table(model, memory, connections.all_always(), "always-on experts");
    counts = counts_view<C>::take(memory, layers, columns, connections.experts(), token_parts);
    given_counts = counts_view<C>::take(memory, layers, columns, connections.experts(), token_parts);
    tables.exposure = memory.take<C>(connections.experts(), "exposure");
    tables.share = memory.take<C>(columns, "shares");
    tables.probability = memory.take<C>(columns, "mean probabilities");
    tables.expert_share = memory.take<C>(connections.experts(), "expert shares");
    tables.expert_probability = memory.take<C>(connections.experts(), "expert probabilities");
    loss = memory.take<C>(1 + parts, "balancing loss");
    dprobability = memory.take<C>(training && balances ? columns : 0, "probability gradients");
    of_part = memory.take<C>(training && parts > 1 ? columns : 0, "probability gradients of a part");
    given_scales = memory.take<C>(training ? parts * layers : 0, "scales of losses");
    token_scale = memory.take<C>(training ? layers : 0, parts, "scales of token losses");
    layout = memory.layout() ^ static_cast<std::uint64_t>(first);

    // Nothing in scratch outlives a call, and its size depends on the number of threads: it lies behind the rest.
    experts = run.template take_scratch<S>(memory, rows, training, shows);
    index_t largest = 0;
    for (const auto& info : *model.layout())
      if (info.expert < 0) largest = (std::max)(largest, info.size());
    router_conversion = run.template take_conversion<S>(memory, largest);
  }

  /// Elements that a stage's scratch takes: every matrix begins where vectors of any type do.
  static index_t elements(const matrix_shape& shape) {
    return (checked_product(shape.rows, shape.cols, "router temporaries") + 15) / 16 * 16;
  }

  /// Elements of scratch of the layer loss that takes most.
  static index_t most_layer_temporaries(const MixtureT& model, const layer_shape& shape) {
    index_t most = 0;
    each_part(model.loss(), [&](const auto& part, index_t) {
      index_t sum = 0;
      if constexpr (LayerLoss<std::remove_cvref_t<decltype(part)>>)
        for (const auto& of : layer_temporaries_of(part, shape)) sum += elements(of);
      most = (std::max)(most, sum);
    });
    return most;
  }
  template <class L>
  static auto layer_temporaries_of(const L& loss, const layer_shape& shape) {
    return detail::layer_temporaries(loss, shape);
  }

  /// Columns that the router's stages save of a layer; in inference all layers use those of the one that saves most.
  static index_t saved_columns(const MixtureT& model, index_t layer, bool training) {
    index_t most = 0;
    for (index_t other = training ? layer : 0; other < (training ? layer + 1 : model.layers()); ++other)
      most = (std::max)(most, row_width(model.stage_saved(other)));
    return most;
  }

  /// Columns that the score makes beside the logits of a layer; in inference the most of any.
  static index_t extra_columns(const MixtureT& model, index_t layer, bool training) {
    index_t most = 0;
    for (index_t other = training ? layer : 0; other < (training ? layer + 1 : model.layers()); ++other)
      most = (std::max)(most, model.extra(other));
    return most;
  }
  /// The most columns that parameter `i` of transform and gate has at any layer.
  static index_t most_columns(const MixtureT& model, std::size_t i) {
    const auto place = static_cast<index_t>(router_stages<router_type>::place_of_row_gradient(i));
    index_t most = 0;
    for (index_t layer = 0; layer < model.layers(); ++layer)
      most = (std::max)(most, (*model.layout())[model.layout()->router(layer, place)].cols);
    return most;
  }
  /// Elements that the router's trained tensors take at the layer that has most of them.
  static index_t weights_of_layer(const MixtureT& model) {
    const auto& layout = *model.layout();
    index_t most = 0;
    for (index_t layer = 0; layer < model.layers(); ++layer) {
      index_t sum = 0;
      for (index_t column = 0; column < layout.router_tensors(); ++column) {
        const auto& info = layout[layout.router(layer, column)];
        if (info.trained) sum += weight_elements(info.rows, info.cols);
      }
      most = (std::max)(most, sum);
    }
    return most;
  }
  /// Every tensor begins where vectors of any type do.
  static index_t weight_elements(index_t rows, index_t cols) { return (rows * cols + 31) / 32 * 32; }

 private:
  /// A table of the mixture where its backend can read it: the mixture's own, or a copy.
  template <class T>
  static vector_view<const T> table(const MixtureT& model, arena& memory, std::span<const T> from,
                                    std::string_view purpose) {
    if constexpr (!on_host<typename MixtureT::backend_type>) {
      const auto there = memory.take<T>(std::ssize(from), purpose);
      if (there.data != nullptr) model.backend().upload(from, there.data);
      return there;
    } else {
      return {from.data(), std::ssize(from)};
    }
  }
};

}  // namespace moue::inline v0_1::detail
