// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Activation functions as template arguments: a value and a derivative.

#include <cmath>
#include <concepts>

#include "moue/config.hpp"
#include "moue/math.hpp"
#include "moue/scalar.hpp"

namespace moue {

/// A differentiable function of one number: static `value(x)` and `derivative(x)`, callable on the device.
template <class A>
concept Activation = requires(double x) {
  { A::value(x) } -> std::convertible_to<double>;
  { A::derivative(x) } -> std::convertible_to<double>;
};

/// max(x, 0); its derivative at 0 is 0.
struct relu {
  template <class C>
  MOUE_HD static C value(C x) {
    return x > C(0) ? x : C(0);
  }
  template <class C>
  MOUE_HD static C derivative(C x) {
    return x > C(0) ? C(1) : C(0);
  }
};

/// max(x, 0)² (So et al., Primer, arXiv 2109.08668).
struct relu_squared {
  template <class C>
  MOUE_HD static C value(C x) {
    return x > C(0) ? x * x : C(0);
  }
  template <class C>
  MOUE_HD static C derivative(C x) {
    return x > C(0) ? C(2) * x : C(0);
  }
};

/// x Φ(x) with the exact normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415).
struct gelu {
  template <class C>
  MOUE_HD static C value(C x) {
    using std::erf;
    return C(0.5) * x * (C(1) + erf(x * C(0.7071067811865475244)));
  }
  template <class C>
  MOUE_HD static C derivative(C x) {
    using std::erf;
    return C(0.5) * (C(1) + erf(x * C(0.7071067811865475244))) +
           x * detail::exponential(C(-0.5) * x * x) * C(0.3989422804014326779);
  }
};

/// x sigmoid(x), also called swish.
struct silu {
  template <class C>
  MOUE_HD static C value(C x) {
    return x * detail::sigmoid(x);
  }
  template <class C>
  MOUE_HD static C derivative(C x) {
    const C s = detail::sigmoid(x);
    return s * (C(1) + x * (C(1) - s));
  }
};

/// x itself: makes a linear expert.
struct identity {
  template <class C>
  MOUE_HD static C value(C x) {
    return x;
  }
  template <class C>
  MOUE_HD static C derivative(C) {
    return C(1);
  }
};

}  // namespace moue
