// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What every stage and loss is told: which layer of which batch, and what the batch brings beside activations.

#include <cstdint>

#include "moue/config.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// Whether a pass saves what backward needs.
enum class mode { inference, training };

/// What a batch brings beside activations, for stages and losses that ask. Views that must stay alive until the next
/// batch.
struct side_inputs {
  vector_view<const std::uint8_t> valid = {};      ///< [tokens] 0 marks padding; empty: all valid
  vector_view<const std::int64_t> token_ids = {};  ///< [tokens] or empty
  vector_view<const std::int64_t> labels = {};     ///< [tokens] or empty
  vector_view<const index_t> sequences = {};       ///< [sequences + 1] where each begins, from 0 to tokens; or empty
  matrix_view<const float> side = {};              ///< [tokens, any] numbers of the host's own, or empty
};

/// One layer's turn in one batch. Plain data, which functors copy to a device.
struct visit {
  index_t layer = -1;          ///< of the mixture; −1 for a loss of the whole depth
  mode how = mode::inference;  ///< of the pass
  std::uint64_t step = 0;      ///< of `batch_options`: what schedules go by
  std::uint64_t seed = 0;      ///< that of `batch_options`, mixed with step and layer: what noise is made of
  index_t first_token = 0;     ///< of `batch_options`: row t of the batch is token `first_token` + t of the noise
};

/// One token, as row stages and token losses are told of it: a member that takes a `const row_context&` behind its other
/// arguments gets one.
struct row_context {
  const visit& at;           ///< the layer's turn
  const side_inputs& batch;  ///< `valid` says which rows the layer's router looks at
  index_t token;             ///< the row of the batch
};

namespace detail {

/// What row functors keep of a visit to make contexts of.
struct row_contexts {
  visit at = {};
  side_inputs batch = {};
  MOUE_HD row_context of(index_t token) const { return {at, batch, token}; }
};

// The members of row stages and losses as function objects, so that one function can call any of them.
struct call_operator {
  template <class T, class... A>
  MOUE_HD constexpr auto operator()(const T& t, const A&... a) const -> decltype(t(a...)) {
    return t(a...);
  }
};
struct call_forward {
  template <class T, class... A>
  MOUE_HD constexpr auto operator()(const T& t, const A&... a) const -> decltype(t.forward(a...)) {
    return t.forward(a...);
  }
};
struct call_backward {
  template <class T, class... A>
  MOUE_HD constexpr auto operator()(const T& t, const A&... a) const -> decltype(t.backward(a...)) {
    return t.backward(a...);
  }
};
struct call_token_value {
  template <class T, class... A>
  MOUE_HD constexpr auto operator()(const T& t, const A&... a) const -> decltype(t.token_value(a...)) {
    return t.token_value(a...);
  }
};
struct call_token_gradient {
  template <class T, class... A>
  MOUE_HD constexpr auto operator()(const T& t, const A&... a) const -> decltype(t.token_gradient(a...)) {
    return t.token_gradient(a...);
  }
};

/// Whether a member may be called with these arguments and, behind them, with a context, with lanes, with both in this
/// order, or with nothing.
template <class Member, class Lanes, class T, class... A>
concept callable_by_row = requires(const Member& member, const T& stage, const row_context& at, const Lanes& lanes,
                                   const A&... a) {
  member(stage, a...);
}
|| requires(const Member& member, const T& stage, const row_context& at, const Lanes& lanes, const A&... a) {
  member(stage, a..., at);
}
|| requires(const Member& member, const T& stage, const row_context& at, const Lanes& lanes, const A&... a) {
  member(stage, a..., lanes);
}
|| requires(const Member& member, const T& stage, const row_context& at, const Lanes& lanes, const A&... a) {
  member(stage, a..., at, lanes);
};

/// Calls a member of a row stage: by all lanes, if it takes any, else by the leading one alone.
template <class Member, class Lanes, class T, class... A>
[[gnu::always_inline]] MOUE_HD inline void call_by_row(const Member& member, const row_context& at, const Lanes& lanes,
                                                       const T& stage, const A&... a) {
  if constexpr (requires { member(stage, a..., at, lanes); })
    member(stage, a..., at, lanes);
  else if constexpr (requires { member(stage, a..., lanes); })
    member(stage, a..., lanes);
  else if (lanes.leads()) {
    if constexpr (requires { member(stage, a..., at); })
      member(stage, a..., at);
    else
      member(stage, a...);
  }
}
/// The same for a member that returns a number, which all lanes get.
template <class R, class Member, class Lanes, class T, class... A>
[[gnu::always_inline]] MOUE_HD inline R value_by_row(const Member& member, const row_context& at, const Lanes& lanes,
                                                     const T& stage, const A&... a) {
  if constexpr (requires { member(stage, a..., at, lanes); })
    return static_cast<R>(member(stage, a..., at, lanes));
  else if constexpr (requires { member(stage, a..., lanes); })
    return static_cast<R>(member(stage, a..., lanes));
  else if constexpr (requires { member(stage, a..., at); })
    return lanes.sum(lanes.leads() ? static_cast<R>(member(stage, a..., at)) : R(0));
  else
    return lanes.sum(lanes.leads() ? static_cast<R>(member(stage, a...)) : R(0));
}

}  // namespace detail
}  // namespace moue::inline v0_1
