// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: an expert's 'backward' must take rows of any type T that numbers are stored as
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"

struct mine {
  moue::index_t width = 4;
  auto parameters() const { return std::array{moue::parameter_spec{.name = "scale", .cols = width}}; }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
  void forward(const auto&, const auto&, const auto&, const auto&, const auto&, auto) const {}
#ifdef MOUE_TEST_FIXED
  template <class C, class T>
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, moue::gated_gradient<C, T>,
                moue::matrix_view<C>, const auto&) const {}
#else
  template <class C>
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, moue::gated_gradient<C>,
                moue::matrix_view<C>, const auto&) const {}
#endif
};

template class moue::executor<mine, moue::reference>;
