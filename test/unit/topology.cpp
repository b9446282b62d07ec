// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/topology.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "moue/error.hpp"
#include "moue/testing/topology_laws.hpp"
#include "moue/topology/adjacent_reuse.hpp"
#include "moue/topology/always_on.hpp"
#include "moue/topology/connectivity.hpp"
#include "moue/topology/layer_local.hpp"
#include "moue/topology/reuse_blocks.hpp"
#include "moue/topology/revisit.hpp"
#include "moue/topology/shared_pool.hpp"
#include "moue/topology/staggered_rotation.hpp"
#include "moue/topology/table.hpp"

namespace {

template <class T>
void obeys_the_laws(const T& topology) {
  const auto report = moue::testing::check_topology_laws(topology);
  CHECK_MESSAGE(static_cast<bool>(report), report.summary());
}

template <class T>
constexpr std::vector<moue::index_t> candidates_of(const T& topology, moue::index_t layer) {
  std::vector<moue::index_t> ids;
  topology.candidates(layer, [&](moue::index_t e) { ids.push_back(e); });
  return ids;
}
template <class T>
std::vector<moue::index_t> always_of(const T& topology, moue::index_t layer) {
  std::vector<moue::index_t> ids;
  topology.always(layer, [&](moue::index_t e) { ids.push_back(e); });
  return ids;
}
template <class A, class B>
bool same_candidates(const A& a, const B& b) {
  if (a.layers() != b.layers() || a.experts() != b.experts()) return false;
  for (moue::index_t layer = 0; layer < a.layers(); ++layer)
    if (candidates_of(a, layer) != candidates_of(b, layer)) return false;
  return true;
}

using ids = std::vector<moue::index_t>;

// --- all of it is available while compiling --------------------------------------------------------------------------

constexpr moue::layer_local plain{.depth = 6, .per_layer = 4};
static_assert(moue::virtual_width(plain) == plain.experts());
static_assert(moue::connects(plain, 2, 9) && !moue::connects(plain, 3, 9));

constexpr moue::shared_pool pool{.depth = 6, .pool = 24};
static_assert(moue::virtual_width(pool) == pool.layers() * pool.experts());
static_assert(moue::exposure(pool, 23) == 6);

constexpr moue::staggered_rotation ring{.depth = 6, .pool = 24, .window = 16, .stride = 4, .group = 1, .local = 2};
static_assert(ring.experts() == 6 * 2 + 24);
static_assert(moue::virtual_width(ring) == 6 * (2 + 16));
static_assert(moue::candidate_count(ring, 5) == 18);
static_assert(moue::exposure(ring, 0) == 1, "a local expert belongs to its layer");
static_assert(moue::connects(ring, 5, 12 + 20) && moue::connects(ring, 5, 12 + (20 + 15) % 24));
static_assert(!moue::connects(ring, 5, 12 + 12), "the window of layer 5 is 20 .. 23, 0 .. 11");
static_assert(moue::covers(ring));
static_assert(!moue::covers(moue::staggered_rotation{.depth = 2, .pool = 9, .window = 3, .stride = 2}));

static_assert(moue::virtual_width(moue::reuse_blocks{.depth = 6, .per_layer = 4, .block = 2}) == 6 * 8);
static_assert(moue::virtual_width(moue::adjacent_reuse{.depth = 6, .per_layer = 4, .reach = 1}) == 4 * (2 + 4 * 3 + 2));
static_assert(moue::virtual_width(moue::revisit{plain, 3}) == 3 * 24);
static_assert(moue::virtual_width(moue::always_on{plain, 1, 2}) == 24, "always-on experts are no candidates");
static_assert(moue::always_on{plain, 1, 2}.experts() == 24 + 6 + 2);
static_assert(moue::covers(moue::always_on{plain, 1, 2}));
static_assert(moue::is_always_on(moue::always_on{plain, 1, 2}, 24) && !moue::is_always_on(plain, 0));
static_assert(moue::virtual_width(moue::table::of(ring)) == moue::virtual_width(ring));

}  // namespace

TEST_CASE("every topology of the library obeys the laws") {
  obeys_the_laws(plain);
  obeys_the_laws(pool);
  obeys_the_laws(moue::shared_pool{.depth = 1, .pool = 1});
  obeys_the_laws(moue::reuse_blocks{.depth = 5, .per_layer = 2, .block = 2});
  obeys_the_laws(moue::adjacent_reuse{.depth = 5, .per_layer = 2, .reach = 2});
  obeys_the_laws(moue::always_on{ring, 1, 2});
  obeys_the_laws(moue::always_on{moue::always_on{plain, 1, 0}, 0, 1});
  obeys_the_laws(moue::revisit{ring, 3, true});
  obeys_the_laws(moue::revisit{moue::always_on{plain, 1, 1}, 2});
  obeys_the_laws(moue::always_on{moue::revisit{plain, 2, true}, 1});
  obeys_the_laws(moue::table{5, {{4, 0}, {1}, {2, 3, 1}}});
  obeys_the_laws(moue::table::of(ring));
  for (moue::index_t group = 1; group <= 3; ++group)
    for (moue::index_t stride = 0; stride <= 7; ++stride)
      for (moue::index_t local = 0; local <= 1; ++local)
        obeys_the_laws(moue::staggered_rotation{
            .depth = 6, .pool = 7, .window = 4, .stride = stride, .group = group, .local = local});
}

TEST_CASE("an orphan is a note, not a broken law") {
  const auto report =
      moue::testing::check_topology_laws(moue::staggered_rotation{.depth = 2, .pool = 6, .window = 3, .stride = 2});
  CHECK(static_cast<bool>(report));
  REQUIRE(report.notes().size() == 1);
  CHECK(report.notes()[0] == "no layer reaches expert 5");
}

TEST_CASE("equal exposure: with q = gcd(s, M) dividing W and G a multiple of M / q, every expert has L W / M visits") {
  int met = 0;
  for (moue::index_t pool_size = 1; pool_size <= 12; ++pool_size)
    for (moue::index_t window = 1; window <= pool_size; ++window)
      for (moue::index_t stride = 1; stride <= 12; ++stride)
        for (moue::index_t group = 1; group <= 2; ++group)
          for (moue::index_t groups = 1; groups <= 12; ++groups) {
            const moue::index_t q = std::gcd(stride, pool_size);
            if (window % q != 0 || groups % (pool_size / q) != 0) continue;
            ++met;
            const moue::index_t depth = group * groups;
            const moue::staggered_rotation topology{depth, pool_size, window, stride, group, 0};
            REQUIRE(depth * window % pool_size == 0);
            for (moue::index_t e = 0; e < pool_size; ++e)
              REQUIRE(moue::exposure(topology, e) == depth * window / pool_size);
          }
  CHECK(met > 1000);
}

TEST_CASE("coverage: for s <= W and no wrap past the start, no orphan exactly if (G - 1) s + W >= M") {
  for (moue::index_t pool_size = 1; pool_size <= 14; ++pool_size)
    for (moue::index_t window = 1; window <= pool_size; ++window)
      for (moue::index_t stride = 1; stride <= window; ++stride)
        for (moue::index_t depth = 1; depth <= 8; ++depth) {
          const moue::index_t group = 1 + depth % 2;
          const moue::index_t groups = (depth + group - 1) / group;
          const moue::staggered_rotation topology{depth, pool_size, window, stride, group, 0};
          REQUIRE(moue::covers(topology) == ((groups - 1) * stride + window >= pool_size));
        }
}

TEST_CASE("the staggered ring contains its relatives") {
  const moue::index_t depth = 6;
  CHECK(same_candidates(moue::staggered_rotation{depth, 8, 8, 0, 1, 0}, moue::shared_pool{depth, 8}));
  CHECK(same_candidates(moue::staggered_rotation{depth, depth * 3, 3, 3, 1, 0}, moue::layer_local{depth, 3}));
  CHECK(same_candidates(moue::staggered_rotation{depth, depth * 3, 6, 6, 2, 0}, moue::reuse_blocks{depth, 3, 2}));
  CHECK(same_candidates(moue::reuse_blocks{depth, 3, 1}, moue::layer_local{depth, 3}));
  CHECK(same_candidates(moue::reuse_blocks{depth, 3, depth}, moue::shared_pool{depth, depth * 3}));
  CHECK(same_candidates(moue::adjacent_reuse{depth, 3, 0}, moue::layer_local{depth, 3}));
  CHECK(same_candidates(moue::revisit{moue::layer_local{depth, 3}, 1}, moue::layer_local{depth, 3}));
  CHECK(same_candidates(moue::revisit{moue::shared_pool{2, 5}, 3}, moue::shared_pool{6, 5}));
  CHECK(same_candidates(moue::table::of(ring), ring));
}

TEST_CASE("neighbouring groups share window - stride experts") {
  const moue::staggered_rotation topology{.depth = 8, .pool = 12, .window = 5, .stride = 2, .group = 2};
  CHECK(candidates_of(topology, 0) == candidates_of(topology, 1));
  CHECK(candidates_of(topology, 0) == ids{0, 1, 2, 3, 4});
  CHECK(candidates_of(topology, 2) == ids{2, 3, 4, 5, 6});
}

TEST_CASE("candidates come in the order the topologies promise") {
  CHECK(candidates_of(ring, 3) == ids{6, 7, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 12, 13, 14, 15});
  CHECK(candidates_of(moue::adjacent_reuse{4, 2, 1}, 0) == ids{0, 1, 2, 3});
  CHECK(candidates_of(moue::adjacent_reuse{4, 2, 1}, 2) == ids{4, 5, 2, 3, 6, 7});
  CHECK(candidates_of(moue::reuse_blocks{5, 2, 2}, 4) == ids{8, 9});  // the last block is shorter
  CHECK(candidates_of(moue::table{5, {{4, 0}}}, 0) == ids{4, 0});
}

TEST_CASE("always-on experts follow those of the base: each layer's own, then the common ones") {
  const moue::always_on shared{plain, 2, 1};
  CHECK(always_of(shared, 0) == ids{24, 25, 36});
  CHECK(always_of(shared, 5) == ids{34, 35, 36});
  CHECK(candidates_of(shared, 5) == candidates_of(plain, 5));
  CHECK(moue::exposure(shared, 36) == 0);
  CHECK(always_of(moue::always_on{shared, 0, 1}, 0) == ids{37, 24, 25, 36});
  CHECK(always_of(moue::revisit{shared, 2}, 7) == always_of(shared, 1));
}

TEST_CASE("visits of one layer share their router only if asked") {
  const moue::revisit tied{plain, 2, true}, apart{plain, 2};
  CHECK(tied.parameter_layer(7) == 1);
  CHECK(apart.parameter_layer(7) == 7);
  CHECK((moue::always_on{tied, 1}.parameter_layer(7)) == 1);
}

TEST_CASE("log_routing_paths is the logarithm of the product of binomials") {
  // One rounding per factor, six layers of a handful of factors.
  constexpr double exact = 1e-13;
  CHECK(moue::log_routing_paths(plain, 2) == doctest::Approx(6 * std::log(6.0)).epsilon(exact));
  CHECK(moue::log_routing_paths(pool, 2) == doctest::Approx(6 * std::log(276.0)).epsilon(exact));
  CHECK(moue::log_routing_paths(plain, 4) == 0);  // no choice
  CHECK(moue::log_routing_paths(plain, 9) == 0);  // k beyond the candidates takes all of them
  CHECK(moue::log_routing_paths(plain, 0) == 0);
  const moue::table uneven{5, {{0, 1, 2, 3, 4}, {0, 1, 2}}};
  CHECK(moue::log_routing_paths(uneven, 2) == doctest::Approx(std::log(10.0 * 3.0)).epsilon(exact));
}

TEST_CASE("lowering a topology keeps its tables and refuses what breaks the laws") {
  const moue::connectivity lowered(moue::always_on{ring, 1, 1});
  CHECK(lowered.layers() == 6);
  CHECK(lowered.experts() == 12 + 24 + 6 + 1);
  CHECK(lowered.candidate_offset(6) == moue::virtual_width(ring));
  CHECK(lowered.max_candidates() == 18);
  CHECK(lowered.max_always() == 2);
  CHECK(lowered.candidates(1)[2] == 12 + 4);
  CHECK(lowered.always(5)[0] == 12 + 24 + 5);
  for (moue::index_t e = 0; e < ring.experts(); ++e)
    CHECK(lowered.exposure()[static_cast<std::size_t>(e)] == moue::exposure(ring, e));
  CHECK(lowered.exposure()[42] == 0);

  const auto refused = [](const auto& topology, const char* why) {
    CHECK_THROWS_WITH_AS(moue::connectivity{topology}, doctest::Contains(why), moue::error);
  };
  refused(moue::staggered_rotation{.depth = 2, .pool = 3, .window = 4}, "names expert 0 twice");
  refused(moue::table{2, {{0, 2}}}, "layer 0 names expert 2");
  refused(moue::table{2, {{0}, {-1}}}, "layer 1 names expert -1");
  refused(moue::table{2, {{0}, {}}}, "layer 1 has no candidate");
  refused(moue::table{2, {}}, "it has 0 layers");
  refused(moue::table{0, {{0}}}, "it has 0 experts");
}
