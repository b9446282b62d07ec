// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Layer losses in a pass: their values once a layer has run, and their gradients on its way back.

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "moue/layer_loss.hpp"
#include "moue/pass/memory.hpp"
#include "moue/pass/state.hpp"
#include "moue/pass/statistics.hpp"

namespace moue::inline v0_1::detail {

/// m = from, or zeros where nothing was given.
template <class C>
struct begin_with {
  matrix_view<const C> from;
  matrix_view<C> m;
  MOUE_HD void operator()(index_t i, index_t j) const { m(i, j) = from.empty() ? C(0) : from(i, j); }
};

/// to += from.
template <class C>
struct add_entry {
  vector_view<const C> from;
  vector_view<C> to;
  MOUE_HD void operator()(index_t i) const { to[i] += from[i]; }
};

/// What layer losses do at a layer. Cheap to make.
template <class MixtureT, Storage S>
struct layer_losses {
  using C = compute_t<S>;
  using loss_type = typename MixtureT::loss_type;
  using memory_type = pass_memory<MixtureT, S>;
  static constexpr index_t parts = part_count<loss_type>;

  const pass_state<MixtureT, S>& state;
  layer_frame<C> frame;

  /// Adds the values of the layer to what is counted of it.
  void count() const {
    const auto ops = state.operations();
    const auto& memory = state.memory;
    ops.each_row(parts, clear_entry<C>{memory.layer_loss});
    each_layer_part([&](const auto& part, index_t position, const auto& temporary) {
      part.layer_value(ops, frame, vector_view<C>{memory.layer_loss.data + position, 1}, temporary);
    });
    ops.each_row(parts, add_layer_loss<C>{memory.layer_loss, memory.valid_tokens,
                                          memory.counts.token_loss.data + frame.at.layer * parts});
  }
  /// The gradients of the layer, on top of those that the caller gives; in memory that holds until the next layer's.
  routing_gradient<const C> gradient(const routing_gradient<const C>& given) const {
    const auto ops = state.operations();
    const auto& memory = state.memory;
    const index_t n = frame.candidates.size;
    const routing_gradient<C> sum{
        state.shaped(memory.also.logits, n),
        state.shaped(memory.also.probabilities, n),
        {memory.also.gates.data, frame.assigned.entries()},
        frame.outputs.empty() ? matrix_view<C>{} : memory.also.outputs.row_block(0, frame.outputs.rows),
        state.shaped(memory.also.extra, frame.extra.cols)};
    const auto begin = [&](const matrix_view<C>& m, const matrix_view<const C>& from) {
      ops.each_element(m.rows, m.cols, begin_with<C>{from, m});
    };
    begin(sum.logits, given.logits);
    begin(sum.probabilities, given.probabilities);
    begin({sum.gates.data, 1, sum.gates.size}, {given.gates.data, 1, given.gates.size});
    begin(sum.outputs, given.outputs);
    begin(sum.extra, given.extra);
    ops.each_row(parts,
                 scale_layer_loss<C>{memory.token_scale.row(frame.at.layer), memory.valid_tokens, memory.layer_loss});
    each_layer_part([&](const auto& part, index_t position, const auto& temporary) {
      part.layer_gradient(ops, frame, vector_view<const C>{memory.layer_loss.data + position, 1}, sum, temporary);
    });
    return {sum.logits, sum.probabilities, sum.gates, sum.outputs, sum.extra};
  }

 private:
  template <class F>
  void each_layer_part(const F& f) const {
    const index_t entries = frame.assigned.entries();
    const layer_shape shape{
        state.at.tokens,      frame.candidates.size, entries, (std::min)(entries, frame.plan.row_token.size),
        state.model->width(), state.model->experts()};
    each_part(state.model->loss(), [&](const auto& part, index_t position) {
      using part_type = std::remove_cvref_t<decltype(part)>;
      if constexpr (LayerLoss<part_type>) {
        std::array<matrix_view<C>, layer_temporary_count<part_type>> temporary;
        const auto shapes = layer_temporaries(part, shape);
        C* next = state.memory.layer_temporaries.data;
        for (std::size_t i = 0; i != temporary.size(); ++i) {
          temporary[i] = {next, shapes[i].rows, shapes[i].cols};
          next += memory_type::elements(shapes[i]);
        }
        f(part, position, temporary);
      }
    });
  }
};

}  // namespace moue::inline v0_1::detail
