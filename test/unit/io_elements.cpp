// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/elements.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/low_precision.hpp"
#include "moue/io/minifloat.hpp"
#include "moue/scalar.hpp"

namespace {

using moue::io::dtype;

constexpr double infinity = std::numeric_limits<double>::infinity();

/// The value of sign, exponent and fraction of a type with gradual underflow, as IEEE 754 has it.
double value_of(int code, int exponent_bits, int fraction_bits, int bias) {
  const int fraction = code % (1 << fraction_bits);
  const int exponent = code / (1 << fraction_bits) % (1 << exponent_bits);
  const bool negative = code / (1 << fraction_bits) / (1 << exponent_bits) != 0;
  const double digits = std::ldexp(fraction, -fraction_bits) + (exponent > 0 ? 1 : 0);
  return std::copysign(std::ldexp(digits, std::max(exponent, 1) - bias), negative ? -1 : 1);
}

/// Equal, signs of zeros among it, or both no number.
bool same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

template <class T, class From>
std::vector<T> converted(dtype type, const std::vector<From>& from) {
  std::vector<std::byte> bytes(from.size() * sizeof(From) + 1);
  std::memcpy(bytes.data() + 1, from.data(), from.size() * sizeof(From));  // not aligned
  std::vector<T> to(from.size());
  CHECK(moue::io::convert_elements(type, bytes.data() + 1, std::span<T>(to)) == to.size());
  return to;
}

/// Where conversion of the single number stops: 0 if it does not fit, 1 if it does.
template <class T, class From>
std::size_t fits(dtype type, From value) {
  T to{};
  return moue::io::convert_elements(type, reinterpret_cast<const std::byte*>(&value), std::span<T>(&to, 1));
}

template <class T>
double wide(T value) {
  return static_cast<double>(static_cast<moue::compute_t<T>>(value));
}

/// The nearest number of a 16-bit type, found among all of them; ties to the even one.
template <class T>
double nearest(double value) {
  T at{};
  double best = infinity;
  for (int bits = 0; bits < 0x7fff; ++bits) {
    T candidate{};
    candidate.bits = static_cast<std::uint16_t>(bits);
    const double number = wide(candidate);
    if (std::isnan(number)) break;
    // Infinity stands where the next finite number would.
    const double place = std::isinf(number) ? 2 * wide(at) - wide([&] {
                                                T before = at;
                                                --before.bits;
                                                return before;
                                              }())
                                            : number;
    const double distance = std::abs(place - std::abs(value));
    if (distance < best || (distance == best && bits % 2 == 0)) {
      best = distance;
      at = candidate;
    } else if (distance > best) {
      break;
    }
  }
  return std::copysign(wide(at), value);
}

}  // namespace

TEST_CASE("all codes of 8 and 4 bits") {
  for (int code = 0; code < 256; ++code) {
    const auto byte = static_cast<std::uint8_t>(code);
    const bool largest_e4 = (code & 0x7f) == 0x7f, no_zero = code == 0x80;
    const double e5 = value_of(code, 5, 2, 15);
    const bool special_e5 = (code & 0x7c) == 0x7c;
    CHECK(same(moue::io::value_of_e4m3(byte), largest_e4 ? NAN : value_of(code, 4, 3, 7)));
    CHECK(same(moue::io::value_of_e5m2(byte), !special_e5 ? e5 : code & 3 ? NAN : std::copysign(infinity, e5)));
    CHECK(same(moue::io::value_of_e4m3fnuz(byte), no_zero ? NAN : value_of(code, 4, 3, 8)));
    CHECK(same(moue::io::value_of_e5m2fnuz(byte), no_zero ? NAN : value_of(code, 5, 2, 16)));
    CHECK(same(moue::io::value_of_e8m0(byte), code == 255 ? NAN : std::ldexp(1.0, code - 127)));
  }
  const std::array<float, 8> fp4{0, .5f, 1, 1.5f, 2, 3, 4, 6};
  for (std::size_t code = 0; code < 16; ++code)
    CHECK(same(moue::io::value_of_e2m1(static_cast<std::uint8_t>(code)), code < 8 ? fp4[code] : -fp4[code - 8]));

  // From the publications of the formats, so that `value_of` above is not trusted alone.
  CHECK(moue::io::value_of_e4m3(0x7e) == 448);
  CHECK(moue::io::value_of_e4m3(0x01) == 0x1p-9f);
  CHECK(moue::io::value_of_e5m2(0x7b) == 57344);
  CHECK(moue::io::value_of_e5m2(0x01) == 0x1p-16f);
  CHECK(moue::io::value_of_e4m3fnuz(0x7f) == 240);
  CHECK(moue::io::value_of_e5m2fnuz(0x7f) == 57344);
  CHECK(moue::io::value_of_e8m0(127) == 1);
}

TEST_CASE("widening is exact, from any address") {
  CHECK(converted<double>(dtype::f32, std::vector<float>{1.5f, -3e-45f, 3e38f})[1] == -0x1p-148);
  CHECK(converted<double>(dtype::f16, std::vector<moue::half>{0.1f})[0] == wide(moue::half(0.1f)));
  CHECK(converted<float>(dtype::bf16, std::vector<moue::bf16>{0.1f})[0] == static_cast<float>(moue::bf16(0.1f)));
  CHECK(converted<float>(dtype::f32, std::vector<float>{0.1f})[0] == 0.1f);
  CHECK(converted<double>(dtype::f64, std::vector<double>{0.1})[0] == 0.1);
  CHECK(converted<float>(dtype::f8_e4m3, std::vector<std::uint8_t>{0x7e})[0] == 448);
  CHECK(converted<float>(dtype::f8_e5m2, std::vector<std::uint8_t>{0x7b})[0] == 57344);
  CHECK(converted<float>(dtype::f8_e4m3fnuz, std::vector<std::uint8_t>{0x7f})[0] == 240);
  CHECK(converted<moue::half>(dtype::f8_e5m2fnuz, std::vector<std::uint8_t>{0x01})[0].bits == 0x80);
  CHECK(converted<double>(dtype::f8_e8m0, std::vector<std::uint8_t>{0})[0] == 0x1p-127);
}

TEST_CASE_TEMPLATE("narrowing rounds once, to the nearest, ties to even", T, moue::bf16, moue::half) {
  std::mt19937_64 random(3);
  std::vector<double> values{0.0,      -0.0,      1e-320,           -1e-40,  1e300,   -1e300,
                             infinity, -infinity, 65519.999999,     65520.0, 0x1p-25, 0x1.0000001p-25,
                             0x1p-24,  0x1p-134,  0x1.00000001p-134};
  for (int i = 0; i < 40; ++i) {  // the middle between two neighbours, and what lies a little beside it
    T low{}, high{};
    low.bits = static_cast<std::uint16_t>(random() % 0x7bff);
    high.bits = static_cast<std::uint16_t>(low.bits + 1);
    const double middle = (wide(low) + wide(high)) / 2;
    for (const double value :
         {middle, std::nextafter(middle, 0), std::nextafter(middle, infinity), middle * (1 + 1e-9)})
      values.push_back(i % 2 ? value : -value);
  }
  const auto rounded = converted<T>(dtype::f64, values);
  for (std::size_t i = 0; i < values.size(); ++i)
    CHECK_MESSAGE(same(wide(rounded[i]), std::isinf(values[i]) ? values[i] : nearest<T>(values[i])), values[i]);
  CHECK(std::isnan(wide(converted<T>(dtype::f64, std::vector<double>{NAN})[0])));
  CHECK(same(wide(converted<T>(dtype::f32, std::vector<float>{0.1f})[0]), nearest<T>(0.1f)));
}

TEST_CASE("integers fit or are refused") {
  CHECK(converted<float>(dtype::i8, std::vector<std::int8_t>{-128, 127})[0] == -128);
  CHECK(converted<float>(dtype::u8, std::vector<std::uint8_t>{255})[0] == 255);
  CHECK(converted<double>(dtype::i64, std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::min()})[0] ==
        -0x1p63);
  CHECK(converted<float>(dtype::u64, std::vector<std::uint64_t>{1ull << 63})[0] == 0x1p63f);
  CHECK(fits<float>(dtype::i32, std::int32_t{1 << 24}) == 1);
  CHECK(fits<float>(dtype::i32, std::int32_t{(1 << 24) + 1}) == 0);
  CHECK(fits<float>(dtype::i32, std::int32_t{-(1 << 24) - 2}) == 1);
  CHECK(fits<double>(dtype::u32, std::uint32_t{0xffff'ffff}) == 1);
  CHECK(fits<double>(dtype::u64, ~std::uint64_t{0}) == 0);
  CHECK(fits<double>(dtype::i64, std::int64_t{1ll << 53} + 1) == 0);
  CHECK(fits<moue::bf16>(dtype::u8, std::uint8_t{255}) == 1);
  CHECK(fits<moue::bf16>(dtype::i16, std::int16_t{257}) == 0);
  CHECK(fits<moue::half>(dtype::u16, std::uint16_t{65504}) == 1);
  CHECK(fits<moue::half>(dtype::u16, std::uint16_t{65505}) == 0);
  CHECK(fits<moue::half>(dtype::u32, std::uint32_t{65536}) == 0);
  CHECK(fits<moue::half>(dtype::i32, std::int32_t{-65536}) == 0);
  std::vector<float> to(3);
  const std::vector<std::int32_t> from{1, 2, (1 << 24) + 1};
  CHECK(moue::io::convert_elements(dtype::i32, reinterpret_cast<const std::byte*>(from.data()), std::span<float>(to)) ==
        2);
}

TEST_CASE("mxfp4") {
  std::vector<std::byte> blocks(32), scales{std::byte{127}, std::byte{125}};
  for (std::size_t i = 0; i < blocks.size(); ++i)
    blocks[i] = static_cast<std::byte>((i * 2 + 1) % 16 * 16 + i * 2 % 16);
  std::vector<float> out(64);
  moue::io::decode_mxfp4<float>(blocks, scales, out);
  const std::array<float, 8> fp4{0, .5f, 1, 1.5f, 2, 3, 4, 6};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const float size = fp4[i % 8] * (i < 32 ? 1.0f : 0.25f);
    CHECK(same(out[i], i % 16 < 8 ? size : -size));
  }

  // The ends of the scale: 6 * 2^127 is beyond float, 2^-128 below its normal numbers.
  std::vector<double> wide_out(64);
  scales = {std::byte{254}, std::byte{0}};
  moue::io::decode_mxfp4<double>(blocks, scales, wide_out);
  CHECK(wide_out[7] == 6 * 0x1p127);
  CHECK(wide_out[33] == 0x1p-128);
  moue::io::decode_mxfp4<float>(blocks, scales, out);
  CHECK(out[7] == std::numeric_limits<float>::infinity());
  CHECK(out[33] == 0x1p-128f);
  scales[0] = std::byte{255};
  moue::io::decode_mxfp4<float>(blocks, scales, out);
  CHECK(std::isnan(out[1]));
  CHECK(contains(message_of([&] { moue::io::decode_mxfp4<float>(blocks, std::span(scales).first(1), out); }), "mxfp4"));
  CHECK(
      contains(message_of([&] { moue::io::decode_mxfp4<float>(blocks, scales, std::span(out).first(32)); }), "mxfp4"));
}
