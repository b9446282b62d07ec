// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-first-error: moue: an expert's 'forward' is needed for every arithmetic type C; tried with double, it is there
// expected-error: moue: the members of a gate stage are needed for every arithmetic type C; tried with double, one is
// expected-error: moue: the members of a balancing loss are needed for every arithmetic type C; tried with double, one
#include "moue/balance.hpp"
#include "moue/expert.hpp"
#include "moue/router.hpp"

#ifdef MOUE_TEST_FIXED
template <class C>
#else
template <std::same_as<float> C>
#endif
struct only {
  using type = C;
};

struct my_expert {
  moue::index_t width = 4;
  auto parameters() const { return std::array<moue::parameter_spec, 0>{}; }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
  template <class C, class = typename only<C>::type>
  void forward(const auto&, const auto&, const auto&, const auto&, const auto&, moue::matrix_view<C>) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, auto, auto, const auto&) const {}
};

struct my_gate {
  template <class C, class = typename only<C>::type>
  void forward(moue::vector_view<const C>, moue::vector_view<const std::int32_t>, moue::vector_view<C>) const {}
  void backward(auto, auto, auto, auto, auto) const {}
};

struct my_loss {
  template <class C, class = typename only<C>::type>
  C value(const moue::depth_statistics<C>&) const {
    return C(0);
  }
  void gradient(const auto&, auto) const {}
};

static_assert(moue::check_expert<my_expert>());
static_assert(moue::check_gate<my_gate>());
static_assert(moue::check_balance<my_loss>());
