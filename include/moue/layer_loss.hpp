// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Layer losses: what a balancing loss sees that looks at all tokens of a layer at once, and where its gradients go.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "moue/dispatch.hpp"
#include "moue/operations.hpp"
#include "moue/router/frame.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"
#include "moue/visit.hpp"

namespace moue::inline v0_1 {

/// Sizes by which a layer loss declares its scratch.
struct layer_shape {
  index_t tokens = 0;      ///< rows of a pass
  index_t candidates = 0;  ///< of the layer
  index_t entries = 0;     ///< the most assignments
  index_t rows = 0;        ///< the most assignments that run
  index_t width = 0;       ///< of the layer
  index_t experts = 0;     ///< physical experts of the model
};

/// One layer of one batch after its experts ran. Views only.
template <class C>
struct layer_frame {
  visit at;                                    ///< which layer of which batch
  side_inputs batch;                           ///< with `valid` always filled in: the rows that the router looked at
  vector_view<const std::int32_t> candidates;  ///< [n] physical ids, in column order
  /// [tokens, features] what the score read; empty where external inputs are gone, in a pass that was picked up between the
  /// halves of the layer.
  matrix_view<const C> features;
  matrix_view<const C> logits;               ///< [tokens, n] transformed; minus infinity where a candidate is closed
  matrix_view<const C> extra;                ///< [tokens, extra] columns of the score beside its logits
  matrix_view<const C> probabilities;        ///< [tokens, n] of the probability stage; zeros in padding
  matrix_view<const std::int32_t> selected;  ///< [tokens, max_selected] columns, best first, then −1
  matrix_view<const C> gates;                ///< [tokens, max_selected] of the selected columns
  vector_view<const std::int64_t> demand;    ///< [n] tokens that selected a candidate
  vector_view<const std::int64_t> load;      ///< [n] rows that ran on it
  routing<C> assigned;                       ///< the entries that ran
  dispatch_plan plan;                        ///< the rows that they became: whose output stands where
  /// [rows, width] of the experts, in the order of the plan; empty unless the loss says `sees_outputs`, and where somebody
  /// else ran the experts.
  matrix_view<const C> outputs;
};

/// Gradients that reach a layer beside those of its output. An empty view stands for zeros. `T` is the type of arithmetic,
/// `const` where they are only read.
template <class T>
struct routing_gradient {
  matrix_view<T> logits = {};         ///< [tokens, n] of the logits
  matrix_view<T> probabilities = {};  ///< [tokens, n] of the probabilities
  vector_view<T> gates = {};          ///< [entries] of the gates of the entries that ran
  matrix_view<T> outputs = {};        ///< [rows, width] of the experts' outputs, in the order of the plan
  matrix_view<T> extra = {};          ///< [tokens, extra] of the columns beside the logits
};

namespace detail {

template <class L>
auto layer_temporaries(const L& loss, const layer_shape& shape) {
  if constexpr (requires { loss.temporaries(shape); })
    return loss.temporaries(shape);
  else
    return std::array<matrix_shape, 0>{};
}
template <class L>
inline constexpr std::size_t layer_temporary_count =
    std::tuple_size_v<decltype(layer_temporaries(std::declval<const L&>(), layer_shape{}))>;

template <class L, class C = double>
concept has_layer_value = requires(const L loss, const archetype_operations& ops, const layer_frame<C>& frame,
                                   vector_view<C> value,
                                   std::array<matrix_view<C>, layer_temporary_count<L>> temporary) {
  loss.layer_value(ops, frame, value, temporary);
};
template <class L, class C = double>
concept has_layer_gradient = requires(const L loss, const archetype_operations& ops, const layer_frame<C>& frame,
                                      vector_view<const C> scale, const routing_gradient<C>& add,
                                      std::array<matrix_view<C>, layer_temporary_count<L>> temporary) {
  loss.layer_gradient(ops, frame, scale, add, temporary);
};

}  // namespace detail

/// A function of one layer of a batch, averaged over layers; over parts of a batch, the mean by valid tokens:
///
///     static constexpr bool sees_outputs = true;          // optional: whether it reads the experts' outputs
///     auto temporaries(layer_shape) const;                // optional: std::array<matrix_shape, N> of scratch
///     void layer_value(const auto& ops, const auto& frame, vector_view<C> value, const auto& temporary) const;
///     void layer_gradient(const auto& ops, const auto& frame, vector_view<const C> scale, const auto& add,
///                         const auto& temporary) const;
///
/// `layer_value` assigns `value[0]`, its weight included. `layer_gradient` adds `scale[0]` times its derivatives to
/// `add.logits`, `add.extra`, `add.probabilities`, `add.gates` and, if it sees them, `add.outputs`. Both work
/// through `ops`, so that they run where the backend does; `value` and `scale` lie there. Only rows that are `valid` take
/// part.
template <class L>
concept LayerLoss = std::copyable<L> && detail::has_layer_value<L> && detail::has_layer_gradient<L>;

namespace detail {

template <class C>
struct zero_value {
  vector_view<C> value;
  MOUE_HD void operator()(index_t i, index_t) const { value[i] = C(0); }
};

/// Whether a loss, or one that it is the sum of, looks at layers; and at outputs.
template <class L>
inline constexpr bool sees_layers = LayerLoss<L>;
template <class L>
  requires requires { L::sees_layers; }
inline constexpr bool sees_layers<L> = L::sees_layers;
template <class L>
inline constexpr bool sees_outputs = false;
template <class L>
  requires requires { L::sees_outputs; }
inline constexpr bool sees_outputs<L> = L::sees_outputs;

}  // namespace detail

/// A loss of 0 by which a mixture shows the outputs of its experts (`pass::outputs`), so that a host can make a loss of them
/// and hand its gradient to `run_backward`.
struct show_outputs {
  static constexpr bool sees_outputs = true;
  template <class C>
  void layer_value(const auto& ops, const layer_frame<C>&, vector_view<C> value, const auto&) const {
    ops.each_element(1, 1, detail::zero_value<C>{value});
  }
  template <class C>
  void layer_gradient(const auto&, const layer_frame<C>&, vector_view<const C>, const routing_gradient<C>&,
                      const auto&) const {}
};

}  // namespace moue::inline v0_1
