// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Numbers stored in 16 bits, and memory that belongs to the caller.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "compositions.hpp"
#include "moue/moue.hpp"
#include "stack.hpp"
#include "stored.hpp"

namespace {

/// A binary format by its definition.
struct format {
  int exponent_bits, fraction_bits;

  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  double largest() const { return std::ldexp(2 - std::ldexp(1.0, -fraction_bits), bias()); }
  double decode(unsigned bits) const {
    const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    const double fraction = std::ldexp(bits & ((1u << fraction_bits) - 1), -fraction_bits);
    const double sign = (bits & 0x8000u) != 0 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1)
      return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias()) : std::ldexp(1 + fraction, exponent - bias()));
  }
  /// Nearest, ties to even; what is half a step beyond the largest number becomes infinite.
  double round(double x) const {
    if (x == 0 || !std::isfinite(x)) return x;
    const double quantum = std::ldexp(1.0, std::max(std::ilogb(x), 1 - bias()) - fraction_bits);
    const double result = std::nearbyint(x / quantum) * quantum;
    return std::abs(result) > largest() ? std::copysign(std::numeric_limits<double>::infinity(), x) : result;
  }
};

template <class T>
void check_format(const format& f) {
  int wrong_decoded = 0, wrong_saved = 0, wrong_rounded = 0;
  const auto check_rounding = [&](float x) {
    const double expected = f.round(x), result = static_cast<double>(static_cast<float>(T(x)));
    if (result != expected || std::signbit(result) != std::signbit(expected)) ++wrong_rounded;
  };
  for (unsigned bits = 0; bits < 0x10000u; ++bits) {
    T stored;
    stored.bits = static_cast<std::uint16_t>(bits);
    const float value = stored;
    const double expected = f.decode(bits);
    if (std::isnan(expected)) {
      if (!std::isnan(value) || !std::isnan(static_cast<float>(T(value)))) ++wrong_decoded;
      continue;
    }
    if (value != expected || std::signbit(value) != std::signbit(expected)) ++wrong_decoded;
    if (T(value).bits != bits) ++wrong_saved;
    if (std::isinf(value)) continue;
    // The tie to the next number away from zero, and both its neighbours.
    const float up = static_cast<float>(value + (f.decode((bits & 0x7fffu) + 1) - std::abs(expected)) *
                                                    (std::signbit(value) ? -0.5 : 0.5));
    if (std::isinf(up)) continue;
    check_rounding(up);
    check_rounding(std::nextafter(up, std::numeric_limits<float>::infinity()));
    check_rounding(std::nextafter(up, -std::numeric_limits<float>::infinity()));
  }
  CHECK(wrong_decoded == 0);
  CHECK(wrong_saved == 0);
  CHECK(wrong_rounded == 0);
  check_rounding(static_cast<float>(f.largest()));
  check_rounding(std::numeric_limits<float>::max());
  check_rounding(std::numeric_limits<float>::denorm_min());
  CHECK(wrong_rounded == 0);
}

}  // namespace

TEST_CASE("bf16 converts as its format says, for all patterns and ties") { check_format<moue::bf16>({8, 7}); }

TEST_CASE("half converts as its format says, for all patterns and ties") { check_format<moue::half>({5, 10}); }

// Were a layer's arithmetic rounded to 16 bits as well, its output would be off by several roundoffs. Three layers round
// their inputs, outputs and gradients, and each amplifies what came before: a few roundoffs in all.
TEST_CASE("16-bit weights and activations are computed with in float") {
  test::check_against_double(test::stored_as<moue::bf16>(moue::cpu{2}), 0x1p-8, 8 * 0x1p-8);
  test::check_against_double(test::stored_as<moue::half>(moue::reference{}), 0x1p-11, 8 * 0x1p-11);
  test::check_against_double(test::stored_as<float>(moue::reference{}), 0x1p-24, 1e-5);
}

TEST_CASE("weights and gradients may be external") {
  const auto model = test::compose("keyed_trajectory", {}, moue::reference{});
  const auto owned = test::random_weights(*model, 1);
  const auto input = test::random_input(*model, 9, 2);
  const auto expected = test::run_stack(*model, owned, input);

  std::vector<std::vector<double>> memory, gradient_memory;
  std::vector<double*> pointers, gradient_pointers;
  for (moue::index_t i = 0; i < model->layout()->tensors(); ++i) {
    memory.push_back(test::to_vector(owned[i]));
    gradient_memory.emplace_back(memory.back().size(), std::nan(""));  // nobody reads what nobody wrote
  }
  for (auto& m : memory) pointers.push_back(m.data());
  for (auto& m : gradient_memory) gradient_pointers.push_back(m.data());
  const moue::parameters<double> external(model->layout(), pointers);
  CHECK(!external.owned());
  CHECK(owned.owned());
  CHECK_THROWS_AS(moue::parameters<double>{external}, moue::error);
  auto copy_of_owned = owned;
  CHECK(copy_of_owned[0].data != owned[0].data);

  moue::gradients<double> into(model->layout(), gradient_pointers);
  const moue::pass_options options{.tokens = 9};
  moue::workspace scratch(model->workspace_bytes(options));
  const auto pass = model->start(external, options, scratch);
  std::vector<double> x = input.x, y(x.size());
  const auto view = [&](auto& v) { return moue::matrix_view(v.data(), moue::index_t{9}, model->width()); };
  pass->begin(9, {});
  for (moue::index_t l = 0; l < model->layers(); ++l) {
    pass->forward(l, {view(x), {}}, view(y));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }
  CHECK(test::same_bits(x, expected.output));
  pass->arm();
  std::vector<double> dx = input.loss_weight;
  for (moue::index_t l = model->layers(); l-- > 0;) {
    pass->backward(l, view(dx), {view(y), {}}, into);
    for (std::size_t i = 0; i < x.size(); ++i) dx[i] += y[i];
  }
  into.finish();
  for (std::size_t i = 0; i < gradient_memory.size(); ++i)
    CHECK(test::same_bits(gradient_memory[i], test::to_vector(expected.gradients[static_cast<moue::index_t>(i)])));
  into.zero();
  for (const auto& m : gradient_memory) CHECK(test::same_bits(m, std::vector<double>(m.size(), 0.0)));
}

TEST_CASE("a workspace may be external, starting anywhere, and is used to the last byte it asked for") {
  const auto model = test::compose("mixed_pool", {}, moue::cpu{});
  const auto weights = test::random_weights(*model, 1);
  const auto x = test::noise_vector(2, 9 * model->width());
  for (const auto how : {moue::mode::training, moue::mode::inference}) {
    const moue::pass_options options{.tokens = 9, .how = how};
    const auto bytes = model->workspace_bytes(options);
    std::vector<double> expected;
    for (const std::size_t start : {0, 1, 8, 63}) {
      std::vector<std::byte> memory(start + bytes);  // the address sanitizer watches its end
      moue::workspace scratch(std::span<std::byte>(memory).subspan(start));
      const auto pass = model->start(weights, options, scratch);
      std::vector<double> y(x.size());
      const moue::matrix_view out(y.data(), moue::index_t{9}, model->width());
      pass->begin(9, {});
      pass->forward(0, {moue::matrix_view(x.data(), moue::index_t{9}, model->width()), {}}, out);
      for (moue::index_t l = 1; l < model->layers(); ++l) pass->forward(l, {out, {}}, out);
      if (start == 0) expected = y;
      CHECK(test::same_bits(y, expected));
    }
    // `workspace_bytes` counts one alignment for memory that starts anywhere.
    std::vector<std::byte> memory(bytes + moue::workspace::alignment);
    const auto past = reinterpret_cast<std::uintptr_t>(memory.data()) % moue::workspace::alignment;
    const auto aligned = std::span<std::byte>(memory).subspan(past == 0 ? 0 : moue::workspace::alignment - past);
    moue::workspace enough(aligned.first(bytes - moue::workspace::alignment));
    model->start(weights, options, enough);
    moue::workspace scratch(aligned.first(bytes - moue::workspace::alignment - 1));
    CHECK_THROWS_WITH_AS(model->start(weights, options, scratch),
                         doctest::Contains("size it with workspace_bytes, for the same tokens and mode"), moue::error);
  }
}
