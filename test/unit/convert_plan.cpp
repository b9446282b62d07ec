// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Which experts become universal, and which layers reach them.

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include "moue/convert/plan.hpp"
#include "moue/convert/universal.hpp"
#include "moue/topology/always_on.hpp"
#include "moue/topology/layer_local.hpp"
#include "moue/topology/revisit.hpp"
#include "moue/topology/shared_pool.hpp"
#include "moue/topology/staggered_rotation.hpp"
#include "moue/topology/table.hpp"

namespace {

using namespace moue::convert;
using ids = std::vector<moue::index_t>;

ids list(std::span<const moue::index_t> row) { return {row.begin(), row.end()}; }

template <class F>
void refuses(const std::string& text, F&& f) {
  try {
    f();
    FAIL_CHECK("nothing was thrown, where '" << text << "' was due");
  } catch (const moue::error& e) {
    CHECK_MESSAGE(std::string(e.what()).find(text) != std::string::npos, e.what());
  }
}

const moue::layer_local source{3, 2};  // {0, 1}, {2, 3}, {4, 5}

}  // namespace

TEST_CASE("home candidates come first, then what the target adds in its order") {
  const ids universal{5, 0, 3};
  const auto plan = extend(source, universal, moue::table{3, {{0, 1, 2}, {2, 1, 0}, {}}});
  CHECK(plan.home == 2);
  CHECK(list(plan.candidates(0)) == ids{0, 1, 5, 3});  // 0 is at home
  CHECK(list(plan.candidates(1)) == ids{2, 3, 0, 5});
  CHECK(list(plan.foreign(2)).empty());
  CHECK(list(plan.own(2)) == ids{4, 5});
  CHECK(plan.connections() == 4);
  CHECK(plan.home_of(3) == 1);
  CHECK(plan.topology.experts() == 6);
  CHECK(plan.topology.layers() == 3);
  CHECK(moue::covers(plan.topology));
  CHECK(moue::virtual_width(plan.topology) == 6 + 4);
}

TEST_CASE("always-on experts and tied routers are kept, and an always-on expert is no candidate beside itself") {
  const auto universal = all_experts{}(wiring::of(moue::always_on{source, 1, 1}));
  CHECK(universal == ids{0, 1, 2, 3, 4, 5});
  const auto plan = extend(moue::always_on{source, 1, 1}, universal, moue::shared_pool{3, 6});
  const moue::connectivity lowered(plan.topology);
  CHECK(lowered.experts() == 10);
  CHECK(std::vector<int>(lowered.always(1).begin(), lowered.always(1).end()) == std::vector<int>{7, 9});
  CHECK(list(plan.candidates(1)) == ids{2, 3, 0, 1, 4, 5});
  const ids with_shared{7, 0};
  const auto odd = extend(moue::always_on{source, 1, 1}, with_shared, moue::shared_pool{3, 2});
  CHECK(list(odd.candidates(0)) == ids{0, 1, 7});
  CHECK(list(odd.candidates(1)) == ids{2, 3, 0});  // 7 is always on there
  const auto tied = extend(moue::revisit{source, 2, true}, ids{0, 2}, moue::shared_pool{6, 2});
  CHECK(moue::connectivity(tied.topology).parameter_layer(4) == 1);
}

TEST_CASE("foreign candidates can be ordered by promise") {
  const auto plan =
      ranked(extend(source, ids{0, 1, 2, 3, 4, 5}, moue::shared_pool{3, 6}), [](moue::index_t layer, moue::index_t e) {
        return e == 3 ? 1.0 : layer == 2 && e == 1 ? 0.5 : 0.0;
      });
  CHECK(list(plan.candidates(0)) == ids{0, 1, 3, 2, 4, 5});
  CHECK(list(plan.candidates(1)) == ids{2, 3, 0, 1, 4, 5});
  CHECK(list(plan.candidates(2)) == ids{4, 5, 3, 1, 0, 2});
}

TEST_CASE("what does not fit together is refused with its reason") {
  const ids all{0, 1, 2, 3, 4, 5};
  refuses("layer 1 has 1 candidates", [] { extend(moue::table{3, {{0, 1}, {2}}}, ids{}, moue::shared_pool{2, 0}); });
  refuses("expert 6 was chosen of 6", [] { extend(source, ids{6}, moue::shared_pool{3, 1}); });
  refuses("expert -1 was chosen", [] { extend(source, ids{-1}, moue::shared_pool{3, 1}); });
  refuses("expert 2 was chosen twice", [] { extend(source, ids{2, 2}, moue::shared_pool{3, 2}); });
  refuses("the target topology has 2 layers", [&] { extend(source, all, moue::shared_pool{2, 6}); });
  refuses("names position 6 of 6", [&] { extend(source, all, moue::shared_pool{3, 7}); });
  refuses("layers 0 and 3 share router rows", [&] {
    extend(moue::revisit{source, 2, true}, all, moue::staggered_rotation{6, 6, 2, 1});
  });
}

TEST_CASE("universal experts can be given, all, or the most used") {
  const auto from = wiring::of(moue::always_on{source, 1, 0});
  CHECK(given{{4, 1}}(from) == ids{4, 1});
  refuses("expert 9 was chosen of 9", [&] { given{{9}}(from); });
  const std::vector<double> load{0.1, 0.5, 0.2, 0.2, 0.9, 0.3, 9, 9, 9};  // always-on ones do not compete
  CHECK(most_used{2, load}(from) == ids{1, 4});
  CHECK(most_used{1, load, true}(from) == ids{1, 2, 4});  // one of every layer; the tie goes to the lower id
  CHECK(most_used{0, load}(from).empty());
  CHECK(most_used{6, load}(from) == ids{0, 1, 2, 3, 4, 5});
  refuses("7 experts were asked for of 6", [&] { most_used{7, load}(from); });
  refuses("the load has 2 entries for 9", [&] { most_used{1, {1, 2}}(from); });
  // An expert that several layers hold counts once.
  CHECK(most_used{1, {3, 2, 1}, true}(wiring::of(moue::table{3, {{0, 1}, {0, 2}}})) == ids{0});
}

TEST_CASE("the most similar experts have the closest kin in other layers") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  // Kinship by rows: the mean over the two other layers of the best entry.
  const std::vector<double> values{1,   0.9, 0.1, 0.2, 0.3, 0.0,   // (0.2 + 0.3) / 2
                                   0.9, 1,   0.8, 0.1, 0.6, nan,   // (0.8 + 0.6) / 2
                                   0.1, 0.8, 1,   0.5, 0.0, 0.0,   // (0.8 + 0.0) / 2
                                   0.2, 0.1, 0.5, 1,   0.7, 0.75,  // (0.2 + 0.75) / 2
                                   0.3, 0.6, 0.0, 0.7, 1,   0.9,   // (0.6 + 0.7) / 2
                                   0.0, nan, 0.0, nan, 0.9, 1};    // (0.0 + 0.0) / 2
  const auto from = wiring::of(source);
  const auto choose = [&](moue::index_t count, bool per_layer) {
    return most_similar{count, {values.data(), 6, 6}, per_layer}(from);
  };
  CHECK(choose(2, false) == ids{1, 4});
  CHECK(choose(3, false) == ids{1, 3, 4});
  CHECK(choose(1, true) == ids{1, 3, 4});
  refuses("the similarity is [6, 5]", [&] { most_similar{1, {values.data(), 6, 5}}(from); });
}
