// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Numbers made where they are needed: a host would take minutes for the weights of a large layer.

#include <cmath>
#include <cstdint>

#include "moue/parameter.hpp"
#include "moue/view.hpp"

namespace bench {

/// Normal numbers, the same for the same place everywhere up to rounding.
template <class S>
struct normal_numbers {
  moue::matrix_view<S> to;
  std::uint64_t key;
  double deviation, mean;
  MOUE_HD void operator()(moue::index_t i, moue::index_t j) const {
    using std::cos;
    using std::log;
    using std::sqrt;
    const auto position = static_cast<std::uint64_t>(i * to.cols + j);
    const double radius = sqrt(-2 * log(moue::detail::uniform_at(key, 2 * position)));
    const double angle = 6.283185307179586 * moue::detail::uniform_at(key, 2 * position + 1);
    to(i, j) = S(static_cast<moue::compute_t<S>>(mean + deviation * radius * cos(angle)));
  }
};

/// Full rank: inputs of low rank would reach few experts and flatter everyone.
template <class Ops, class S>
void fill_normal(const Ops& ops, moue::matrix_view<S> to, std::uint64_t key, double deviation = 1, double mean = 0) {
  ops.each_element(to.rows, to.cols, normal_numbers<S>{to, moue::detail::mix(key), deviation, mean});
}

/// Weights with the deviation that each tensor is declared with, or the constant.
template <class Ops, class S>
void fill_weights(const Ops& ops, moue::parameters<S>& weights, std::uint64_t key) {
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& init = weights.layout()[i].init;
    using kind = moue::initializer::kind;
    const double deviation = init.what == kind::normal ? init.value
                             : init.what == kind::uniform
                                 ? init.value / std::sqrt(3.0)  // of numbers in [-value, value]
                                 : 0;
    fill_normal(ops, weights[i], moue::detail::mix(key) + static_cast<std::uint64_t>(i), deviation,
                init.what == kind::constant ? init.value : 0);
  }
}

}  // namespace bench
