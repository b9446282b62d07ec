// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: an expert needs the member 'void forward\(ops, p, x, saved, temporary, y\) const', where p holds moue::grouped_matrix
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"

struct mine {
  moue::index_t width = 4;
  auto parameters() const { return std::array{moue::parameter_spec{.name = "scale", .cols = width}}; }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
#ifdef MOUE_TEST_FIXED
  template <class C>
  void forward(const auto&, const auto&, const auto&, const auto&, const auto&, moue::matrix_view<C>) const {}
#else
  template <class C>
  void forward(const auto&, const auto&, moue::matrix_view<const C>, const auto&, const auto&,
               moue::matrix_view<C>) const {}
#endif
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, auto, auto, const auto&) const {}
};

template class moue::executor<mine, moue::reference>;
