// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The device's counting sort against the host's, by the unmodified kernels.

#include "emulated.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace {

namespace gpu = moue::detail::gpu;

/// A routing that owns its arrays.
struct assignments {
  std::string name;
  moue::index_t experts = 0;
  std::vector<moue::index_t> offsets{0};
  std::vector<std::int32_t> expert = {};
  std::vector<double> gate = {};

  moue::index_t entries() const { return std::ssize(expert); }
  moue::index_t tokens() const { return std::ssize(offsets) - 1; }
  moue::routing<double> view() const {
    return {{offsets.data(), std::ssize(offsets)}, {expert.data(), entries()}, {gate.data(), 0}};
  }
};

/// `selected` distinct experts for each token, each left empty with probability `holes`.
assignments rectangle(moue::index_t tokens, moue::index_t selected, moue::index_t experts, double holes,
                      unsigned seed) {
  assignments result{"rectangle", experts};
  std::mt19937 random(seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(experts));
  std::iota(ids.begin(), ids.end(), 0);
  for (moue::index_t t = 0; t < tokens; ++t) {
    std::shuffle(ids.begin(), ids.end(), random);
    for (moue::index_t i = 0; i < selected; ++i)
      result.expert.push_back(std::bernoulli_distribution(holes)(random) ? -1 : ids[static_cast<std::size_t>(i)]);
    result.offsets.push_back(result.entries());
  }
  return result;
}

/// Tokens with any number of entries, some with none, the last ones too; some name an expert more than once.
assignments ragged(moue::index_t tokens, moue::index_t experts, unsigned seed) {
  assignments result{"ragged", experts};
  std::mt19937 random(seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(experts));
  std::iota(ids.begin(), ids.end(), 0);
  for (moue::index_t t = 0; t < tokens; ++t) {
    std::shuffle(ids.begin(), ids.end(), random);
    const bool none = t % 5 == 3 || t > tokens - 4;
    const auto count =
        none ? 0 : std::uniform_int_distribution<moue::index_t>(0, std::min<moue::index_t>(experts, 7))(random);
    for (moue::index_t i = 0; i < count; ++i)
      result.expert.push_back(i % 4 == 2 ? -1 : ids[static_cast<std::size_t>(t % 3 == 1 ? i / 2 : i)]);
    result.offsets.push_back(result.entries());
  }
  return result;
}

/// Memory for a plan, full of rubbish.
struct planned {
  explicit planned(const assignments& a, moue::index_t scratch) {
    moue::arena counter;
    moue::dispatch_plan::take(counter, a.tokens(), a.entries(), a.experts, scratch);
    bytes.assign(counter.bytes(), std::byte{0x5a});
    moue::arena memory{std::span<std::byte>(bytes)};
    plan = moue::dispatch_plan::take(memory, a.tokens(), a.entries(), a.experts, scratch);
  }
  std::vector<std::byte> bytes;
  moue::dispatch_plan plan;
};

template <class T>
std::vector<T> first(const moue::vector_view<T>& v, moue::index_t count) {
  return {v.data, v.data + count};
}

void check_equal(const moue::dispatch_plan& plan, const moue::dispatch_plan& expected, moue::index_t tokens) {
  const auto rows = expected.rows();
  CHECK(first(plan.expert_offsets, expected.experts() + 1) == first(expected.expert_offsets, expected.experts() + 1));
  CHECK(first(plan.row_token, rows) == first(expected.row_token, rows));
  CHECK(first(plan.row_expert, rows) == first(expected.row_expert, rows));
  CHECK(first(plan.row_entry, rows) == first(expected.row_entry, rows));
  CHECK(first(plan.token_offsets, tokens + 1) == first(expected.token_offsets, tokens + 1));
  CHECK(first(plan.token_rows, rows) == first(expected.token_rows, rows));
}

/// With chunks of 32 entries many blocks take part, with the real ones few.
void check(const assignments& a) {
  CAPTURE(a.name);
  CAPTURE(a.experts);
  CAPTURE(a.tokens());
  CAPTURE(a.entries());
  planned expected(a, 0);
  moue::make_plan(a.view(), expected.plan);
  for (const int chunk : {32, gpu::dispatch_chunk})
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      CAPTURE(chunk);
      CAPTURE(seed);
      const auto room = 1 + gpu::dispatch_job::chunks_for(a.entries(), chunk) * gpu::dispatch_job::columns(a.experts);
      planned made(a, room);
      const test::emulated_open::runtime_type runtime(seed);
      gpu::dispatch(runtime, a.view(), made.plan, chunk);
      check_equal(made.plan, expected.plan, a.tokens());
      CHECK(made.plan.scratch[0] == 0);
    }
}

}  // namespace

TEST_CASE("rectangles of any size are sorted as the host sorts them") {
  check(rectangle(0, 2, 3, 0, 1));
  check(rectangle(1, 1, 1, 0, 2));
  check(rectangle(1, 257, 257, 0, 3));
  check(rectangle(33, 3, 4, 0.2, 4));
  check(rectangle(64, 4, 8, 0, 5));     // a multiple of every block
  check(rectangle(300, 2, 7, 0.1, 6));  // of none
  check(rectangle(40, 8, 257, 0.3, 7));
  check(rectangle(700, 3, 5, 0.05, 8));  // more chunks than a block has warps, also of the real size
  check(rectangle(90, 1, 1000, 0, 9));
}

TEST_CASE("ragged lists, empty tokens and empty entries") {
  check(ragged(1, 3, 1));
  check(ragged(50, 6, 2));
  check(ragged(333, 20, 3));
  check(rectangle(20, 3, 4, 1.0, 4));  // nothing but -1
  assignments all_empty{"no entries", 5};
  for (int t = 0; t < 9; ++t) all_empty.offsets.push_back(0);
  check(all_empty);
}

TEST_CASE("all tokens to one expert") {
  for (const std::int32_t favourite : {0, 3, 9}) {
    assignments a{"one expert", 10};
    for (int t = 0; t < 500; ++t) {
      a.expert.push_back(favourite);
      a.offsets.push_back(a.entries());
    }
    check(a);
  }
}

TEST_CASE("ids out of range are left out and counted") {
  auto a = rectangle(200, 3, 6, 0.1, 5);
  auto without = a;
  int wrong = 0;
  for (std::size_t i = 0; i < a.expert.size(); i += 7) {
    wrong += 1;
    a.expert[i] = i % 2 == 0 ? 6 : -2 - static_cast<std::int32_t>(i);
    without.expert[i] = -1;
  }
  planned expected(without, 0);
  moue::make_plan(without.view(), expected.plan);
  planned made(a, gpu::dispatch_scratch(a.entries(), a.experts));
  const test::emulated_open backend;
  backend.dispatch(a.view(), made.plan);
  check_equal(made.plan, expected.plan, a.tokens());
  CHECK(backend.refused_entries(made.plan) == wrong);
}

TEST_CASE("a plan without room is refused, and so is a routing too large to count") {
  const auto a = rectangle(10, 2, 3, 0, 1);
  planned made(a, 3);
  CHECK_THROWS_WITH_AS(test::emulated_open().dispatch(a.view(), made.plan),
                       doctest::Contains("take it by an executor on this backend"), moue::error);
  auto r = a.view();
  r.expert.size = moue::index_t{1} << 31;
  CHECK_THROWS_WITH_AS(test::emulated_open().dispatch(r, made.plan), doctest::Contains("split the batch"), moue::error);
}
