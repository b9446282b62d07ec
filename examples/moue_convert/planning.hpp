// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From the options to a plan, and to the new router rows of one layer.

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "../moue_inspect/expert_outputs.hpp"
#include "moue/convert/plan.hpp"
#include "moue/convert/rows.hpp"
#include "moue/convert/universal.hpp"
#include "moue/io/converted.hpp"
#include "moue/parameter.hpp"
#include "moue/topology/adjacent_reuse.hpp"
#include "moue/topology/reuse_blocks.hpp"
#include "moue/topology/shared_pool.hpp"
#include "moue/topology/staggered_rotation.hpp"
#include "options.hpp"

namespace converting {

namespace io = moue::io;
namespace convert = moue::convert;

namespace detail {

inline constexpr moue::index_t probes = 32;  // inputs by which experts are compared

inline std::vector<moue::index_t> ids_in(std::string_view text) {
  std::vector<moue::index_t> ids;
  while (!text.empty()) {
    moue::index_t id = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), id);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (problem != std::errc() || (!text.empty() && text.front() != ','))
      throw usage_error("--universal list: takes ids with commas between them");
    ids.push_back(id);
    if (text.empty()) return ids;
    text.remove_prefix(1);
  }
  throw usage_error("--universal list: needs an id behind every colon and comma");
}

/// Loads of the routed experts, then zeros for the shared ones.
inline std::vector<double> loads_in(const std::string& path, const io::moe_description& d, moue::index_t experts) {
  const auto where = "loads " + io::detail::shown(path);
  const auto refuse = [&](const std::string& what) { throw std::runtime_error(where + ": " + what); };
  const io::mapped_file file(path);
  const auto layers = io::detail::read_tree(io::detail::text_of(file.bytes()), where);
  const auto are = [](const nlohmann::json& list, auto holds) {
    return list.is_array() && std::all_of(list.begin(), list.end(), holds);
  };
  const auto number = [](const nlohmann::json& value) { return value.is_number(); };
  if (!are(layers, [&](const nlohmann::json& layer) { return are(layer, number); }))
    refuse("is not a JSON list with a list of numbers for each layer");
  std::vector<double> loads;
  for (const auto& layer : layers)
    for (const auto& load : layer) loads.push_back(load.get<double>());
  if (std::ssize(loads) != d.layers() * d.experts)
    refuse("has " + std::to_string(loads.size()) + " numbers for " + std::to_string(d.layers()) + " layers of " +
           std::to_string(d.experts) + " experts");
  loads.resize(static_cast<std::size_t>(experts), 0);
  return loads;
}

}  // namespace detail

inline std::vector<moue::index_t> choose_universal(const options& o, const io::moe_checkpoint& checkpoint) {
  const auto& d = checkpoint.description();
  const auto source = convert::wiring::of(io::topology_of(d));
  if (o.universal.name == "most_similar") {
    std::vector<std::pair<moue::index_t, moue::index_t>> routed;
    for (moue::index_t e = 0; e < d.layers() * d.experts; ++e) routed.emplace_back(e / d.experts, e % d.experts);
    const auto similarity = inspect::similarity_of(checkpoint, routed, detail::probes).values;
    // Shared experts, which come last, are similar to none.
    const moue::index_t all = source.experts();
    std::vector<double> values(static_cast<std::size_t>(all * all), std::numeric_limits<double>::quiet_NaN());
    for (moue::index_t a = 0; a < similarity.items; ++a)
      for (moue::index_t b = 0; b < similarity.items; ++b)
        values[static_cast<std::size_t>(a * all + b)] = similarity(a, b);
    return convert::most_similar{static_cast<moue::index_t>(o.universal.numbers[0]),
                                 moue::matrix_view<const double>{values.data(), all, all}}(source);
  }
  if (o.universal.name == "list") return convert::given{detail::ids_in(o.universal.text)}(source);
  if (o.universal.name == "most_used")
    return convert::most_used{static_cast<moue::index_t>(o.universal.numbers[0]),
                              detail::loads_in(o.universal.text, d, source.experts())}(source);
  return convert::all_experts{}(source);
}

inline convert::plan make_plan(const options& o, const io::moe_checkpoint& checkpoint) {
  const auto& d = checkpoint.description();
  const auto source = io::topology_of(d);
  const auto universal = choose_universal(o, checkpoint);
  const auto pool = std::ssize(universal);
  const auto number = [&](std::size_t i) { return static_cast<moue::index_t>(o.topology.numbers[i]); };
  const auto per_layer = [&] {
    if (pool % d.layers() != 0)
      throw usage_error("--topology " + o.topology.name + " needs as many universal experts in every layer, but " +
                        std::to_string(pool) + " are chosen for " + std::to_string(d.layers()) + " layers");
    return pool / d.layers();
  };
  if (o.topology.name == "staggered_rotation" && number(0) > pool)
    throw usage_error("--topology staggered_rotation has a window of " + std::to_string(number(0)) + " in a ring of " +
                      std::to_string(pool) + " universal experts");
  if (o.topology.name == "staggered_rotation")
    return convert::extend(
        source, universal,
        moue::staggered_rotation{.depth = d.layers(), .pool = pool, .window = number(0), .stride = number(1)});
  if (o.topology.name == "reuse_blocks")
    return convert::extend(source, universal,
                           moue::reuse_blocks{.depth = d.layers(), .per_layer = per_layer(), .block = number(0)});
  if (o.topology.name == "adjacent_reuse")
    return convert::extend(source, universal,
                           moue::adjacent_reuse{.depth = d.layers(), .per_layer = per_layer(), .reach = number(0)});
  return convert::extend(source, universal, moue::shared_pool{.depth = d.layers(), .pool = pool});
}

/// Row `expert` of `layer`'s router.
inline void read_router_row(const io::moe_checkpoint& source, moue::index_t layer, moue::index_t expert,
                            std::span<float> out) {
  const auto slice = source.description().slice(layer, io::moe_part::router);
  source.files().read(slice.tensor, static_cast<std::uint64_t>(expert) * out.size(), out);
}

/// The new router rows of `layer` [foreign, width].
inline std::vector<float> make_rows(const options& o, const io::moe_checkpoint& source, const convert::plan& plan,
                                    moue::index_t layer) {
  const auto& d = source.description();
  const auto foreign = plan.foreign(layer);
  const auto width = static_cast<std::size_t>(d.width);
  std::vector<float> rows(foreign.size() * width, 0.0f), kin(width), own;
  if (o.rows.name == "zero") return rows;
  if (o.rows.name == "mean") own = source.read<float>(layer, io::moe_part::router);
  for (std::size_t i = 0; i < foreign.size(); ++i) {
    const moue::vector_view<float> row{rows.data() + i * width, d.width};
    if (o.rows.name == "random") {
      const std::uint64_t key = moue::detail::mix(o.seed ^ moue::detail::mix(static_cast<std::uint64_t>(layer)));
      for (moue::index_t j = 0; j < d.width; ++j)
        row[j] = static_cast<float>(
            o.rows.numbers[0] *
            moue::detail::normal_at(key, static_cast<std::uint64_t>(static_cast<moue::index_t>(i) * d.width + j)));
      continue;
    }
    if (o.rows.name == "home") read_router_row(source, foreign[i] / d.experts, foreign[i] % d.experts, kin);
    const convert::row_source<float> from{{own.data(), own.empty() ? 0 : d.experts, d.width}, {kin.data(), d.width}};
    if (o.rows.name == "mean")
      convert::mean_row{o.rows.numbers[0]}(from, row);
    else
      convert::home_row{o.rows.numbers[0]}(from, row);
  }
  return rows;
}

}  // namespace converting
