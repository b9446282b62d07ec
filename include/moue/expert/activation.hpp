// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Activation functions as template arguments: a value and its derivatives.

#include <cmath>
#include <concepts>

#include "moue/config.hpp"
#include "moue/math.hpp"
#include "moue/scalar.hpp"

namespace moue::inline v0_1 {

/// A differentiable function of one number: static `value(x)` and `derivative(x)`, callable on the device.
template <class A>
concept Activation = requires(double x) {
  { A::value(x) } -> std::convertible_to<double>;
  { A::derivative(x) } -> std::convertible_to<double>;
};

/// A differentiable function of the two numbers that a gated expert multiplies elsewhere: static `value(gate, up)`,
/// `gate_derivative(gate, up)` and `up_derivative(gate, up)`, callable on the device.
template <class A>
concept PairActivation = requires(double gate, double up) {
  { A::value(gate, up) } -> std::convertible_to<double>;
  { A::gate_derivative(gate, up) } -> std::convertible_to<double>;
  { A::up_derivative(gate, up) } -> std::convertible_to<double>;
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

/// The approximation of `gelu` with tanh, x sigmoid(2 t) with t = sqrt(2 / π) (x + 0.044715 x³), which some models were
/// trained with (`gelu_pytorch_tanh`).
struct gelu_tanh {
  template <class C>
  MOUE_HD static C value(C x) {
    return x * detail::sigmoid(twice(x));
  }
  template <class C>
  MOUE_HD static C derivative(C x) {
    const C s = detail::sigmoid(twice(x)), slope = s * (C(1) - s);
    if (slope == C(0)) return s;  // the square of a large x may be infinite
    return s + x * slope * C(1.5957691216057308) * (C(1) + C(0.134145) * x * x);
  }

 private:
  template <class C>
  MOUE_HD static C twice(C x) {
    return C(1.5957691216057308) * x * (C(1) + C(0.044715) * x * x);
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

namespace detail {

// Comparisons that let NaN pass.
template <class C>
MOUE_HD C cut_above(C x, C limit) {
  return x > limit ? limit : x;
}
template <class C>
MOUE_HD C cut_beyond(C x, C limit) {
  return x < -limit ? -limit : cut_above(x, limit);
}

}  // namespace detail

/// gate sigmoid(1.702 gate) (up + 1) with gate cut off above 7 and up outside [-7, 7]: the gating of gpt-oss
/// (`swiglu_alpha`, `swiglu_limit`; arXiv 2508.10925). Derivatives are 0 where cut off, and those of the inside on the edge.
struct clamped_swiglu {
  static constexpr double limit = 7;      ///< of the gate, and of `up` in both directions
  static constexpr double slope = 1.702;  ///< of the gate within the sigmoid

  template <class C>
  MOUE_HD static C value(C gate, C up) {
    const C g = detail::cut_above(gate, C(limit));
    return g * detail::sigmoid(C(slope) * g) * (detail::cut_beyond(up, C(limit)) + C(1));
  }
  template <class C>
  MOUE_HD static C gate_derivative(C gate, C up) {
    const C g = detail::cut_above(gate, C(limit));
    const C s = detail::sigmoid(C(slope) * g);
    return gate > C(limit) ? C(0) : s * (C(1) + C(slope) * g * (C(1) - s)) * (detail::cut_beyond(up, C(limit)) + C(1));
  }
  template <class C>
  MOUE_HD static C up_derivative(C gate, C up) {
    const C g = detail::cut_above(gate, C(limit));
    return up > C(limit) || up < C(-limit) ? C(0) : g * detail::sigmoid(C(slope) * g);
  }
};

/// silu(gate) up with gate cut off above 10 and up outside [-10, 10] (DeepSeek-V4's `swiglu_limit`). Derivatives as those
/// of `clamped_swiglu`.
struct clamped_silu {
  static constexpr double limit = 10;  ///< of the gate, and of `up` in both directions

  template <class C>
  MOUE_HD static C value(C gate, C up) {
    return silu::value(detail::cut_above(gate, C(limit))) * detail::cut_beyond(up, C(limit));
  }
  template <class C>
  MOUE_HD static C gate_derivative(C gate, C up) {
    return gate > C(limit) ? C(0) : silu::derivative(gate) * detail::cut_beyond(up, C(limit));
  }
  template <class C>
  MOUE_HD static C up_derivative(C gate, C up) {
    return up > C(limit) || up < C(-limit) ? C(0) : silu::value(detail::cut_above(gate, C(limit)));
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

}  // namespace moue::inline v0_1
