// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The tiles that blocks find, sums of columns, and the choice among the ways to a product.

#include <set>

#include "emulated_products.hpp"

namespace {

struct found_tiles {
  test::gpu::segments groups;
  test::gpu::tile_schedule schedule;
  test::gpu::tile_place* places;
};
void find_all(found_tiles f) {
  const auto place = test::gpu::find_tile(f.groups, f.schedule, blockIdx.x);
  if (threadIdx.x == 7) f.places[blockIdx.x] = place;
}

/// Every row of every group that takes part lies in exactly one tile, and no tile is larger than it may be.
void check_schedule(const std::vector<moue::index_t>& sizes, const std::vector<std::int32_t>& kinds,
                    moue::index_t spare, moue::index_t tile) {
  CAPTURE(tile);
  CAPTURE(spare);
  const test::product_trial<float> trial({.sizes = sizes, .kinds = kinds, .spare = spare});
  const auto groups = trial.segments();
  const auto schedule = test::gpu::schedule_tiles(groups, tile);
  CHECK(schedule.selected <= groups.capacity / tile + groups.groups);
  CHECK(schedule.selected <= groups.capacity);
  std::vector<test::gpu::tile_place> places(static_cast<std::size_t>(schedule.selected));
  test::emulated_launches{}.launch(find_all, dim3(static_cast<unsigned>(schedule.selected)), dim3(32), 0,
                                   found_tiles{groups, schedule, places.data()});
  std::multiset<std::pair<moue::index_t, moue::index_t>> covered, expected;
  for (const auto& place : places) {
    CHECK(place.rows <= tile);
    for (moue::index_t row = place.first; row < place.first + place.rows; ++row) covered.insert({place.group, row});
  }
  for (std::size_t g = 0; g < sizes.size(); ++g)
    for (moue::index_t row = trial.offsets[g]; row < trial.offsets[g + 1]; ++row)
      if (trial.shape.takes_part(g)) expected.insert({static_cast<moue::index_t>(g), row});
  CHECK(covered == expected);
}

/// The kernels that a call starts, by their addresses.
struct recorded_launches {
  moue::product_choice chosen = {};
  mutable std::vector<void (*)()> kernels = {};

  template <class... P, class... A>
  void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared, const A&... arguments) const {
    kernels.push_back(reinterpret_cast<void (*)()>(kernel));
    test::emulated_launches{1, chosen}.launch(kernel, grid, block, shared, arguments...);
  }
  moue::product_choice choice() const { return chosen; }
};

template <class Engine, class Product>
void (*tiles_kernel())() {
  void (*const kernel)(Product) = test::gpu::run_tiles<Engine, Product>;
  return reinterpret_cast<void (*)()>(kernel);
}

}  // namespace

TEST_CASE("tiles cover the rows of any groups") {
  std::mt19937 random(3);
  for (int trial = 0; trial < 60; ++trial) {
    const auto below = [&](unsigned n) { return static_cast<moue::index_t>(random() % n); };
    std::vector<moue::index_t> sizes(static_cast<std::size_t>(1 + below(trial % 10 == 0 ? 300 : 12)));
    std::vector<std::int32_t> kinds;
    for (auto& size : sizes) {
      size = below(3) == 0 ? 0 : below(trial % 2 == 0 ? 40 : 4);
      if (trial % 3 == 0) kinds.push_back(static_cast<std::int32_t>(below(2)));
    }
    check_schedule(sizes, kinds, 1 + below(20), trial % 7 == 0 ? 400 : 1 + below(17));
  }
  check_schedule(std::vector<moue::index_t>(257, 1), {}, 0, 8);
  check_schedule(std::vector<moue::index_t>(1100, 3), {}, 0, 8);  // three look-ups, one after another
}

TEST_CASE("rows without offsets are one group") {
  const auto schedule = test::gpu::schedule_tiles(test::gpu::one_segment(21), 8);
  REQUIRE(schedule.selected == 3);
  std::vector<test::gpu::tile_place> places(3);
  test::emulated_launches{}.launch(find_all, dim3(3), dim3(32), 0,
                                   found_tiles{test::gpu::one_segment(21), schedule, places.data()});
  CHECK(places[2].first == 16);
  CHECK(places[2].rows == 5);
}

TEST_CASE_TEMPLATE("columns are summed by group", C, float, double) {
  auto shapes = test::product_shapes();
  shapes.push_back({.sizes = {2, 300, 0, 530}, .n = 1, .k = 33});  // more rows than a block reads at once
  for (const auto& shape : shapes) {
    CAPTURE(shape.text());
    const test::product_trial<C> trial([&] {
      auto with_bias = shape;
      with_bias.n = 1;  // the sums are matrices [1, k]
      return with_bias;
    }());
    std::mt19937 random(7);
    auto x = trial.rows_of(trial.shape.k, random);
    auto sums = trial.template matrices<C>(random), before = sums;
    trial.with_table(sums, [&](const auto& table) {
      test::gpu::launch_column_sum(test::emulated_launches{}, trial.segments(), moue::matrix_view<const C>(x.view()),
                                   table);
    });
    for (std::size_t g = 0; g < shape.sizes.size(); ++g) {
      auto expected = before[g];
      if (shape.takes_part(g) && shape.sizes[g] > 0)
        test::compare_block(sums[g].view(), expected.view(), shape.sizes[g],
                            [&](moue::matrix_view<double> out, bool absolute) {
                              const auto block = x.view().row_block(trial.offsets[g], shape.sizes[g]);
                              const auto a = test::in_double<void>(block, absolute),
                                         c = test::in_double<void>(before[g].view(), absolute);
                              std::copy(c.begin(), c.end(), out.data);
                              moue::reference_operations{}.column_sum(
                                  moue::matrix_view<const double>{a.data(), block.rows, block.cols}, out);
                            });
      CHECK(sums[g].same_bits(expected));
    }
  }
}

TEST_CASE("the way to a product is chosen by what the host knows") {
  namespace gpu = test::gpu;
  using S = moue::bf16;
  const auto kernels = [](const test::product_shape& shape, const moue::product_choice& choice, auto storage) {
    using stored = decltype(storage);
    const test::product_trial<stored> trial(shape);
    const recorded_launches runtime{choice};
    using rounded = std::conditional_t<sizeof(stored) == 2, stored, void>;
    const bool narrow = sizeof(stored) == 2 && choice.tensor_cores && !shape.dense &&
                        gpu::rows_of_group(trial.segments()) > choice.few_rows;
    const auto run = [&](const auto& groups, auto x, const auto& w, auto y, auto mode) {
      gpu::products::rows(runtime, gpu::one_product<false>(groups, x, w, y, mode));
    };
    if (narrow)
      trial.template check_rows<false, rounded>(run, moue::store::assign);
    else
      trial.template check_rows<false, void>(run, moue::store::assign);
    return runtime.kernels;
  };
  using narrow_rows = gpu::row_product<float, S, false>;
  using float_rows = gpu::row_product<float, float, false>;
  const test::product_shape few{.sizes = {3, 1}, .n = 9, .k = 24}, many{.sizes = {3, 60}, .n = 9, .k = 24},
      router{.sizes = {60}, .n = 9, .k = 24, .dense = true};
  const moue::product_choice plain{.tensor_cores = false}, small_chip{.multiprocessors = 1};
  const auto body = [](auto kernel) { return std::vector{reinterpret_cast<void (*)()>(kernel)}; };

  CHECK(kernels(few, {}, S()) == body(gpu::run_few_rows<gpu::few_rows_linear<4, 8, float, S>, float, S, false>));
  CHECK(kernels(few, small_chip, S()) ==
        body(gpu::run_few_rows<gpu::few_rows_linear<4, 1, float, S>, float, S, false>));
  CHECK(kernels(many, {}, S()) == std::vector{tiles_kernel<gpu::tensor_tiles<S>::low<false>, narrow_rows>()});
  CHECK(kernels(many, {.low_tiles = 20, .multiprocessors = 1}, S()) ==
        std::vector{tiles_kernel<gpu::tensor_tiles<S>::high<false>, narrow_rows>()});
  const auto high_on = [&](moue::index_t kilobytes) {
    return kernels(many, {.low_tiles = 20, .multiprocessors = 1, .shared_bytes = kilobytes << 10}, S());
  };
  CHECK(high_on(99) == std::vector{tiles_kernel<gpu::tensor_tiles<S>::high<false, 3>, narrow_rows>()});
  CHECK(high_on(163) == std::vector{tiles_kernel<gpu::tensor_tiles<S>::high<false>, narrow_rows>()});
  CHECK(kernels(many, plain, S()) == std::vector{tiles_kernel<gpu::scalar_tiles<float>::low<false>, narrow_rows>()});
  CHECK(kernels(many, {}, float()) == std::vector{tiles_kernel<gpu::scalar_tiles<float>::low<false>, float_rows>()});
  // A router's activations are not rounded: its selection would depend on it. Tiles too few for the chip are not taken.
  CHECK(kernels(router, small_chip, S()) ==
        std::vector{tiles_kernel<gpu::scalar_tiles<float>::high<false>, narrow_rows>()});
  CHECK(kernels(router, {}, S()) == body(gpu::run_few_rows<gpu::few_rows_linear<4, 8, float, S>, float, S, false>));
}

TEST_CASE("the four products, through the door the backend uses") {
  namespace gpu = test::gpu;
  const test::emulated_launches runtime;
  const test::product_trial<moue::bf16> trial({.sizes = {2, 0, 30}, .n = 10, .k = 24});
  trial.check_both_modes<false, moue::bf16>([&](const auto& groups, auto x, const auto& table, auto y, auto mode) {
    gpu::linear(runtime, groups, x, moue::grouped_matrix<const moue::bf16>{table.of_group, {}, 10, 24}, y, mode);
  });
  trial.check_both_modes<true, moue::bf16>([&](const auto& groups, auto x, const auto& table, auto y, auto mode) {
    gpu::input_gradient(runtime, groups, x, moue::grouped_matrix<const moue::bf16>{table.of_group, {}, 10, 24}, y,
                        mode);
  });
  trial.check_gradient<void>([&](const auto& groups, auto dy, auto x, const auto& table) {
    gpu::weight_gradient(runtime, groups, dy, x, moue::grouped_matrix<float>{table.of_group, {}, 10, 24});
  });
  trial.check_gradient<moue::bf16>([&](const auto& groups, auto dy, auto x, const auto& table) {
    gpu::weight_gradient<moue::bf16>(runtime, groups, dy, x, moue::grouped_matrix<float>{table.of_group, {}, 10, 24});
  });
}

TEST_CASE("products without rows, columns or depth") {
  namespace gpu = test::gpu;
  const test::emulated_launches runtime;
  std::vector<double> y(6, 2.0), empty;
  const moue::matrix_view<double> out{y.data(), 2, 3};
  const moue::matrix_view<const double> no_depth{empty.data(), 2, 0}, no_weights{empty.data(), 3, 0};
  gpu::linear(runtime, gpu::one_segment(2), no_depth, no_weights, out, moue::store::add);
  CHECK(y == std::vector<double>(6, 2.0));
  gpu::linear(runtime, gpu::one_segment(2), no_depth, no_weights, out, moue::store::assign);
  CHECK(y == std::vector<double>(6, 0.0));
  gpu::linear(runtime, gpu::one_segment(0), no_depth, no_weights, moue::matrix_view<double>{y.data(), 0, 3});
  gpu::weight_gradient(runtime, gpu::one_segment(2), moue::matrix_view<const double>(out), no_depth,
                       moue::matrix_view<double>{empty.data(), 3, 0});
  gpu::column_sum(runtime, gpu::one_segment(2), no_depth, moue::matrix_view<double>{empty.data(), 1, 0});
}

TEST_CASE("a grid that cannot be is refused") {
  test::emulated_launches runtime;
  const moue::index_t rows = moue::index_t{1} << 37;
  double x = 0;
  const moue::matrix_view<double> huge{&x, rows, 1};
  CHECK_THROWS_WITH_AS(test::gpu::linear(runtime, test::gpu::one_segment(rows), moue::matrix_view<const double>(huge),
                                         moue::matrix_view<const double>{&x, 1, 1}, huge),
                       doctest::Contains("a kernel needs 2147483648 blocks"), moue::error);
}
