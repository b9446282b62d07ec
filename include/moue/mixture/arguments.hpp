// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a mixture says of arguments that stand in each other's place.

#include <concepts>

#include "moue/backend.hpp"
#include "moue/balance.hpp"
#include "moue/expert.hpp"
#include "moue/router/compose.hpp"
#include "moue/topology.hpp"

namespace moue::inline v0_1::detail {

// By members that no other kind has. One that lacks some of the others is told so by its own check.
template <class T>
concept like_expert = has_temporaries<T> || is_expert_pool<T>;
template <class T>
concept like_topology = has_candidates<T>;
template <class T>
concept like_loss = has_any_loss_member<T> || std::same_as<T, no_balancing>;
template <class T>
concept like_backend = requires(const T backend) {
  backend.workers();
};

template <class E, class T, class R, class L, class B>
consteval bool check_arguments() {
  static_assert(!like_topology<E>, "moue: the first argument of mixture is an expert; this is a topology");
  static_assert(!is_router<E>, "moue: the first argument of mixture is an expert; this is a router");
  static_assert(!like_loss<E>, "moue: the first argument of mixture is an expert; this is a balancing loss");
  static_assert(!like_backend<E>, "moue: the first argument of mixture is an expert; this is a backend");
  static_assert(!like_expert<T>, "moue: the second argument of mixture is a topology; this is an expert");
  static_assert(!is_router<T>, "moue: the second argument of mixture is a topology; this is a router");
  static_assert(!like_loss<T>, "moue: the second argument of mixture is a topology; this is a balancing loss");
  static_assert(!like_backend<T>, "moue: the second argument of mixture is a topology; this is a backend");
  static_assert(!like_expert<R>, "moue: the third argument of mixture is a router; this is an expert");
  static_assert(!like_topology<R>, "moue: the third argument of mixture is a router; this is a topology");
  static_assert(!like_loss<R>, "moue: the third argument of mixture is a router; this is a balancing loss");
  static_assert(!like_backend<R>, "moue: the third argument of mixture is a router; this is a backend");
  static_assert(!like_expert<L>, "moue: the fourth argument of mixture is a balancing loss; this is an expert");
  static_assert(!like_topology<L>, "moue: the fourth argument of mixture is a balancing loss; this is a topology");
  static_assert(!is_router<L>, "moue: the fourth argument of mixture is a balancing loss; this is a router");
  static_assert(!like_backend<L>,
                "moue: the fourth argument of mixture is a balancing loss; this is a backend: put "
                "'moue::no_balancing{}' before it");
  static_assert(!like_expert<B>, "moue: the fifth argument of mixture is a backend; this is an expert");
  static_assert(!like_topology<B>, "moue: the fifth argument of mixture is a backend; this is a topology");
  static_assert(!is_router<B>, "moue: the fifth argument of mixture is a backend; this is a router");
  static_assert(!like_loss<B>, "moue: the fifth argument of mixture is a backend; this is a balancing loss");
  return true;
}

}  // namespace moue::inline v0_1::detail
