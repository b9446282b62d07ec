// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: an expert needs the member 'index_t width'
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  moue::index_t width = 4;
#endif
  auto parameters() const { return std::array<moue::parameter_spec, 0>{}; }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
  void forward(const auto&, const auto&, auto, const auto&, const auto&, auto) const {}
  void backward(const auto&, const auto&, auto, const auto&, const auto&, auto, auto, const auto&) const {}
};

template class moue::executor<mine, moue::reference>;
