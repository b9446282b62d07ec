// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Every way to a product of groups, over rows a group: where one overtakes another is where the thresholds of
// `product_choice` belong. --tokens stands for rows a group, on average; the columns of results as well.

#include <string>
#include <type_traits>

#include "device.cuh"
#include "moue/cuda.cuh"
#include "products.hpp"

namespace {

using bench::index_t;
constexpr index_t rows_of_group[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024};
constexpr index_t straight_to_registers = 64;  // rows from which `few_rows` is not tried: it reads weights for each 8

template <class S>
void sweep(const bench::options& o, const moue::cuda& gpu, const bench::shape& s, index_t rows) {
  const auto name = bench::device_name();
  const auto chip = bench::chip_of(o, name);
  const bench::cache_flush flush(o.cold);
  const bench::grouped_products<moue::cuda, S> products(gpu, s, rows * s.experts);
  constexpr std::pair<bench::product, const char*> all[] = {{bench::product::linear, "product_linear"},
                                                            {bench::product::transposed, "product_transposed"},
                                                            {bench::product::gradient, "product_gradient"}};
  for (const auto& [product, scope] : all)
    for (const auto& way : bench::ways(gpu.runtime().multiprocessors())) {
      if (!bench::exists(product, way.name) || (way.name == "few_rows" && rows >= straight_to_registers)) continue;
      const auto what = o.type + " " + std::string(s.name) + " " + scope + " " + std::string(way.name);
      bench::attempt(o, what, 0, [&] {
        products.clear();
        products.run(product, way.choice);
        const auto work = products.needed(product);
        const bench::result line{.chip = name,
                                 .type = o.type,
                                 .shape = std::string(s.name),
                                 .experts = s.experts,
                                 .tokens = rows,
                                 .scope = scope,
                                 .implementation = std::string(way.name),
                                 .flops = work.flops,
                                 .floor_us = work.floor_us(chip),
                                 .scratch_bytes = static_cast<double>(products.scratch_bytes()),
                                 .error = products.error(product),
                                 .tolerance = bench::tolerance<S>};
        bench::report(
            o, bench::measure(o, gpu.runtime().stream(), flush, line, [&] { products.run(product, way.choice); }));
      });
    }
}

template <class S>
void run_all(const bench::options& o) {
  const moue::cuda gpu;
  for (auto s : bench::shapes) {
    if (!o.wants(s.name)) continue;
    for (const index_t rows : o.tokens_or(rows_of_group)) {
      const auto bytes = [&] { return bench::grouped_products<moue::cuda, S>::bytes(s, rows * s.experts); };
      while (s.experts > 1 && bytes() > 0.9 * bench::free_bytes()) s.experts /= 2;
      bench::attempt(o, o.type + " " + std::string(s.name) + " rows=" + std::to_string(rows), bytes(),
                     [&] { sweep<S>(o, gpu, s, rows); });
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_program(
      argc, argv, [](const bench::options& o) { o.type == "float" ? run_all<float>(o) : run_all<moue::bf16>(o); });
}
