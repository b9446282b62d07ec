// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Noise by counter: the number of a token depends on where it is asked for, not on who asks or in which order.

#include <bit>
#include <cmath>
#include <cstdint>

#include "moue/config.hpp"
#include "moue/visit.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// SplitMix64's mixing function: the same number for the same position everywhere.
MOUE_HD constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// Uniform in (0, 1), with 53 random bits.
MOUE_HD constexpr double uniform_at(std::uint64_t key, std::uint64_t position) {
  return (static_cast<double>(mix(key ^ mix(position)) >> 11) + 0.5) * 0x1p-53;
}

/// The number of `draw` of a token, before it is made one of a distribution.
MOUE_HD constexpr std::uint64_t key_of(const visit& at, index_t token) {
  return mix(at.seed ^ mix(static_cast<std::uint64_t>(at.first_token + token)));
}

/// log x for normal x in (0, 1]. Sums of products are written as fused operations and nothing else is left to contract:
/// the same bits on every machine and for any flags.
MOUE_HD inline double exact_log(double x) {
  constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<std::int32_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0), square = s * s;
  double sum = 1.0 / 23.0;  // log m = 2 atanh s, whose series ends here at the last bit for |s| < 0.172
  for (int k = 21; k > 1; k -= 2) sum = std::fma(sum, square, 1.0 / k);
  const double tail = sum * square;
  const double of_m = std::fma(2.0 * s, tail, 2.0 * s);
  return std::fma(exponent, ln2_high, std::fma(exponent, ln2_low, of_m));
}

/// `factor` times the quotient of two polynomials of degree 7, the highest coefficient first; the denominator ends in 1.
MOUE_HD inline double rational(double r, const double (&numerator)[8], const double (&denominator)[7],
                               double factor = 1.0) {
  double num = numerator[0], den = denominator[0];
  for (int i = 1; i < 8; ++i) num = std::fma(num, r, numerator[i]);
  for (int i = 1; i < 7; ++i) den = std::fma(den, r, denominator[i]);
  return num * factor / std::fma(den, r, 1.0);
}

/// The number below which a standard normal variable lies with probability p in (0, 1): M. J. Wichura, Algorithm AS 241,
/// Applied Statistics 37 (1988), with relative errors of about 1e-16.
MOUE_HD inline double normal_quantile(double p) {
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    constexpr double a[8] = {2.50908092873012267270e+3, 3.34305755835881281050e+4, 6.72657709270087008530e+4,
                             4.59219539315498714570e+4, 1.37316937655094611250e+4, 1.97159095030655144270e+3,
                             1.33141667891784377450e+2, 3.38713287279636660800e+0};
    constexpr double b[7] = {5.22649527885285456100e+3, 2.87290857357219426740e+4, 3.93078958000927106100e+4,
                             2.12137943015865958670e+4, 5.39419602142475110770e+3, 6.87187007492057908300e+2,
                             4.23133307016009112520e+1};
    return rational(std::fma(-q, q, 0.180625), a, b, q);
  }
  const double r = std::sqrt(-exact_log(q < 0.0 ? p : 1.0 - p));
  double x = 0.0;
  if (r <= 5.0) {
    constexpr double c[8] = {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                             1.27045825245236838258e+0, 3.64784832476320460504e+0, 5.76949722146069140550e+0,
                             4.63033784615654529590e+0, 1.42343711074968357734e+0};
    constexpr double d[7] = {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
                             1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e+0,
                             2.05319162663775882187e+0};
    x = rational(r - 1.6, c, d);
  } else {
    constexpr double e[8] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                             2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e+0,
                             5.46378491116411436990e+0, 6.65790464350110377720e+0};
    constexpr double f[7] = {2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
                             7.86869131145613259100e-4,  1.48753612908506148525e-2, 1.36929880922735805310e-1,
                             5.99832206555887937690e-1};
    x = rational(r - 5.0, e, f);
  }
  return q < 0.0 ? -x : x;
}

}  // namespace detail

/// Uniform in (0, 1). `token` is the row of the batch, `draw` tells the numbers of a token apart. The same for any number
/// of threads, any backend, and any cut of the batch or the depth: seed, step, layer, token and draw decide alone.
MOUE_HD constexpr double uniform_at(const visit& at, index_t token, index_t draw) {
  return detail::uniform_at(detail::key_of(at, token), static_cast<std::uint64_t>(draw));
}
/// Standard normal, in the same way. Draws of `uniform_at` and `normal_at` with equal arguments are not independent.
MOUE_HD inline double normal_at(const visit& at, index_t token, index_t draw) {
  return detail::normal_quantile(uniform_at(at, token, draw));
}

}  // namespace moue::inline v0_1
