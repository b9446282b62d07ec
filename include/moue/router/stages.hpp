// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Drives the stages of a router over one flat list of parameters, scratch and state columns.

#include <array>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

#include "moue/router/compose.hpp"
#include "moue/router/row_members.hpp"
#include "moue/router/rows.hpp"

namespace moue::inline v0_1::detail {

/// A logit that is no finite number before anything was closed is an accident, and minus infinity must not hide it.
template <class C>
struct show_broken_logit {
  matrix_view<C> logits;
  MOUE_HD void operator()(index_t t, index_t j) const {
    if (!is_finite(logits(t, j))) logits(t, j) = std::numeric_limits<C>::quiet_NaN();
  }
};

/// What row stages are given of a router's parameters. Plain lists of views, which functors copy to a device.
template <class RouterT, class T>
struct row_parameters {
  std::array<T, stage_parameter_count<decltype(RouterT::transform)>> transform;
  std::array<T, stage_parameter_count<decltype(RouterT::preference)>> preference;
  std::array<T, stage_parameter_count<decltype(RouterT::select)>> select;
  std::array<T, stage_parameter_count<decltype(RouterT::gate)>> gate;
};

/// All parameters of a router at a layer: features, score, transform, preference, select, gate; a pass lays scratch, saved
/// matrices and state out in this order too. `seen_by_features` and `seen_by_others` are the layer's sizes.
template <class RouterT>
auto router_parameters(const RouterT& router, const router_shape& seen_by_features,
                       const router_shape& seen_by_others) {
  return join_arrays(stage_parameters(router.features, seen_by_features),
                     stage_parameters(router.score, seen_by_others), stage_parameters(router.transform, seen_by_others),
                     stage_parameters(router.preference, seen_by_others),
                     stage_parameters(router.select, seen_by_others), stage_parameters(router.gate, seen_by_others));
}

template <class RouterT>
class router_stages {
  using features_type = std::remove_cvref_t<decltype(std::declval<RouterT>().features)>;
  using score_type = std::remove_cvref_t<decltype(std::declval<RouterT>().score)>;
  using transform_type = std::remove_cvref_t<decltype(std::declval<RouterT>().transform)>;
  using preference_type = std::remove_cvref_t<decltype(std::declval<RouterT>().preference)>;
  using select_type = std::remove_cvref_t<decltype(std::declval<RouterT>().select)>;
  using gate_type = std::remove_cvref_t<decltype(std::declval<RouterT>().gate)>;
  static constexpr std::size_t features_parameters = stage_parameter_count<features_type>;
  static constexpr std::size_t score_parameters = stage_parameter_count<score_type>;
  static constexpr std::size_t first_row_parameter = features_parameters + score_parameters;
  static constexpr std::size_t transform_parameters = stage_parameter_count<transform_type>;
  static constexpr std::size_t preference_parameters = stage_parameter_count<preference_type>;
  static constexpr std::size_t select_parameters = stage_parameter_count<select_type>;
  static constexpr std::size_t gate_parameters = stage_parameter_count<gate_type>;

 public:
  static constexpr bool own_features = !std::is_same_v<features_type, input_features>;
  /// Whether logits of minus infinity are marks; else they are accidents.
  static constexpr bool score_closes = has_close<score_type>;
  /// Whether a candidate can be closed while its logit is broken.
  static constexpr bool may_close = score_closes || !std::is_same_v<preference_type, by_logits>;
  static constexpr std::size_t parameters =
      first_row_parameter + transform_parameters + preference_parameters + select_parameters + gate_parameters;
  static constexpr std::size_t temporaries =
      stage_temporary_count<features_type> + stage_temporary_count<score_type> + stage_temporary_count<select_type>;
  static constexpr std::size_t saved = stage_saved_count<features_type> + stage_saved_count<score_type>;
  /// Whether the selection takes entries back once their gates are known.
  static constexpr bool drops = has_drop<select_type> || has_most_entries<select_type>;
  /// Whether others see other logits than the score made.
  static constexpr bool transforms = !std::is_same_v<transform_type, no_transform>;
  static constexpr bool makes_extra = has_extra<score_type>;
  /// Parameters of transform and gate, whose gradients are made token by token.
  static constexpr std::size_t row_gradients = transform_parameters + gate_parameters;

  explicit router_stages(const RouterT& router) : router_(router) {}

  template <class C>
  void make_features(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    if constexpr (own_features)
      router_.features.forward(ops, features_part(frame), features_part(p), features_scratch(temporary));
  }

  template <class C>
  void make_logits(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, clear_element<C>{frame.logits});
    router_.score.forward(ops, score_part(frame), score_part(p), score_scratch(temporary));
    if constexpr (score_closes) {
      ops.each_element(frame.logits.rows, frame.logits.cols, show_broken_logit<C>{frame.logits});
      router_.score.close(ops, score_part(frame), score_part(p), score_scratch(temporary));
    }
  }

  template <class C>
  void advance(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    if constexpr (has_state_width<features_type>)
      router_.features.advance(ops, features_part(frame), features_part(p), features_scratch(temporary));
    if constexpr (has_state_width<score_type>)
      router_.score.advance(ops, score_part(frame), score_part(p), score_scratch(temporary));
  }

  template <class C>
  void advance_backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient,
                        const auto& p, const auto& temporary, const auto& dp) const {
    if constexpr (has_state_width<features_type>)
      router_.features.advance_backward(ops, features_part(frame), features_part(frame, gradient), features_part(p),
                                        features_scratch(temporary), features_part(dp));
    if constexpr (has_state_width<score_type>)
      router_.score.advance_backward(ops, score_part(frame), score_part(frame, gradient), score_part(p),
                                     score_scratch(temporary), score_part(dp));
  }

  /// Expects the features of `make_features` to be there.
  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto& temporary, const auto& dp) const {
    router_.score.backward(ops, score_part(frame), score_part(frame, gradient), score_part(p), score_scratch(temporary),
                           score_part(dp));
    if constexpr (own_features)
      router_.features.backward(ops, features_part(frame), features_part(frame, gradient), features_part(p),
                                features_scratch(temporary), features_part(dp));
  }

  template <class T>
  static row_parameters<RouterT, T> row_part(const std::array<T, parameters>& p) {
    constexpr std::size_t preference = first_row_parameter + transform_parameters;
    constexpr std::size_t select = preference + preference_parameters, gate = select + select_parameters;
    return {sub_array<first_row_parameter, transform_parameters>(p), sub_array<preference, preference_parameters>(p),
            sub_array<select, select_parameters>(p), sub_array<gate, gate_parameters>(p)};
  }
  /// The place among all parameters of those whose gradients are made token by token.
  static constexpr std::size_t place_of_row_gradient(std::size_t i) {
    const bool of_transform = static_cast<index_t>(i) < index_t{transform_parameters};
    return of_transform ? first_row_parameter + i : parameters - row_gradients + i;
  }
  static auto select_scratch(const auto& temporary) {
    return sub_array<temporaries - stage_temporary_count<select_type>, stage_temporary_count<select_type>>(temporary);
  }

 private:
  template <class T, std::size_t N>
  static auto features_part(const std::array<T, N>& p) {
    return sub_array<0, features_parameters>(p);
  }
  template <class T, std::size_t N>
  static auto score_part(const std::array<T, N>& p) {
    return sub_array<features_parameters, score_parameters>(p);
  }
  static auto features_scratch(const auto& temporary) {
    return sub_array<0, stage_temporary_count<features_type>>(temporary);
  }
  static auto score_scratch(const auto& temporary) {
    return sub_array<stage_temporary_count<features_type>, stage_temporary_count<score_type>>(temporary);
  }

  template <class Frame>
  static Frame with_state(Frame frame, index_t first, index_t width) {
    frame.state = frame.state.column_block(first, width);
    frame.next_state = frame.next_state.column_block(first, width);
    return frame;
  }
  template <class C>
  index_t features_state(const router_frame<C>& frame) const {
    return stage_state_width(router_.features, features_shape(frame));
  }
  template <class C>
  auto features_part(const router_frame<C>& frame) const {
    auto part = with_state(frame, 0, features_state(frame));
    part.saved = frame.saved.first(stage_saved_count<features_type>);
    return part;
  }
  template <class C>
  auto score_part(const router_frame<C>& frame) const {
    auto part = with_state(frame, features_state(frame), stage_state_width(router_.score, score_shape(frame)));
    part.saved = frame.saved.last(stage_saved_count<score_type>);
    return part;
  }
  template <class C>
  auto features_part(const router_frame<C>& frame, const router_gradient<C>& gradient) const {
    return with_state(gradient, 0, features_state(frame));
  }
  template <class C>
  auto score_part(const router_frame<C>& frame, const router_gradient<C>& gradient) const {
    return with_state(gradient, features_state(frame), stage_state_width(router_.score, score_shape(frame)));
  }

  const RouterT& router_;
};

}  // namespace moue::inline v0_1::detail
