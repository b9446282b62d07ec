// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The way back: a converted checkpoint becomes a plain one of its family, whose layers own a copy of every expert that
/// they reach. Bytes of experts are copied as they are, whatever their precision.

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config_text.hpp"
#include "forward.hpp"

namespace converting {

namespace detail {

/// A tensor of an expert: in a tensor of its own, or a slice of one that stacks a layer's experts.
struct expert_piece {
  std::string stem;  // of the tensor's name, with "{e}" if there is one per expert
  bool stacked = false;
};

inline std::string name_of(const io::moe_description& d, const std::string& stem, moue::index_t layer,
                           moue::index_t e) {
  auto name = stem;
  if (const auto brace = name.find("{e}"); brace != std::string::npos) name.replace(brace, 3, std::to_string(e));
  return d.layer_name(layer) + name;
}

/// All that is stored for an expert: matrices and biases, and blocks and scales where numbers are coded.
inline std::vector<expert_piece> expert_pieces(const io::moe_checkpoint& source) {
  const auto& d = source.description();
  std::vector<expert_piece> pieces;
  for (const auto part : io::moe_parts) {
    if (!d.has(part) || !io::moe_description::per_expert(part)) continue;
    const bool stacked = d.pattern(part).find("{e}") == std::string::npos;
    for (const auto& stem : io::detail::names_of(d.layout, d.pattern(part))) {
      const auto known = std::any_of(pieces.begin(), pieces.end(), [&](const auto& p) { return p.stem == stem; });
      if (!known && source.files().contains(name_of(d, stem, 0, 0))) pieces.push_back({stem, stacked});
    }
  }
  return pieces;
}

/// A candidate that becomes an expert of the layer's own.
struct private_copy {
  moue::index_t expert = 0;    ///< physical id
  moue::index_t home = -1;     ///< its row in the layer's router, or -1
  moue::index_t foreign = -1;  ///< its row among the foreign ones, or -1
  float opening = 0;
};

/// The open candidates of every layer. By ascending id, since outputs are added up in that order; but where routing is
/// limited to groups, which are neighbours in the router, as they stand there.
inline std::vector<std::vector<private_copy>> find_open(const options& o, const io::moe_checkpoint& source,
                                                        const convert::plan& plan) {
  std::vector<std::vector<private_copy>> result;
  for (moue::index_t layer = 0; layer < plan.layers(); ++layer) {
    const auto openings = source.files().read<float>(io::opening_name(layer));
    const auto own = plan.own(layer), foreign = plan.foreign(layer);
    const auto& router = source.files().entry(source.description().tensor_name(layer, io::moe_part::router));
    const auto& rows = source.files().entry(io::foreign_name(layer));
    if (openings.size() != foreign.size() || rows.type != router.type ||
        source.files().elements(rows.name) != foreign.size() * static_cast<std::size_t>(source.description().width))
      refuse(o.in,
             "'" + io::opening_name(layer) + "' or '" + io::foreign_name(layer) + "' does not fit the plan and router");
    auto& copies = result.emplace_back();
    for (const auto e : own) copies.push_back({e, std::ssize(copies), -1, 0});
    for (std::size_t i = 0; i < foreign.size(); ++i) {
      if (std::isinf(openings[i]) && openings[i] < 0) continue;
      if (openings[i] != 0 && !source.description().has(io::moe_part::router_bias))
        refuse(o.in, "a connection of layer " + std::to_string(layer) + " is open with a bias of " +
                         std::to_string(openings[i]) +
                         ", for which this family has no place: open it fully (bias 0) first");
      copies.push_back({foreign[i], -1, static_cast<moue::index_t>(i), openings[i]});
    }
    if (copies.size() != result.front().size())
      refuse(o.in, "layer " + std::to_string(layer) + " has " + std::to_string(copies.size()) +
                       " open candidates, layer 0 has " + std::to_string(result.front().size()) +
                       ", but this family's layers all have the same number");
    if (source.description().groups == 1)
      std::sort(copies.begin(), copies.end(), [](const auto& x, const auto& y) { return x.expert < y.expert; });
  }
  return result;
}

/// config.json for `experts` in every layer.
inline std::string config_with(const io::moe_checkpoint& source, moue::index_t experts) {
  const auto& d = source.description();
  const moue::index_t group = d.experts / d.groups;
  if (d.groups > 1 && experts % group != 0)
    throw std::runtime_error(std::to_string(experts) + " candidates do not fill groups of " + std::to_string(group) +
                             "; open whole groups");
  const auto& keys = d.family.keys;
  std::map<std::string, moue::index_t, std::less<>> changes;
  for (const auto& key : keys.experts) changes[key] = experts;
  if (d.groups > 1)
    for (const auto& key : keys.groups) changes[key] = experts / group;
  return with_numbers(config_text(source.files()), changes, keys.inside);
}

}  // namespace detail

inline void convert_back(const options& o, const io::moe_checkpoint& source) {
  const auto& files = source.files();
  const auto& d = source.description().running();
  const auto plan = io::plan_of(source);
  detail::require_fresh(o);
  const auto open = detail::find_open(o, source, plan);
  const auto experts = std::ssize(open.front());
  const auto config = detail::config_with(source, experts);
  const auto pieces = detail::expert_pieces(source);

  // What is laid out anew: expert tensors, and the router's, which have a row or number per expert.
  std::vector<io::tensor_spec> specs;
  std::map<std::string, bool> anew;
  std::uint64_t bytes = 0;
  const auto lay_out = [&](const std::string& name, const std::string& like, bool per_expert_axis) {
    auto shape = files.entry(like).shape;
    // The experts are the first axis that has their number: [experts, ...], or [1, experts].
    if (per_expert_axis)
      shape[shape.size() > 1 && shape[0] == 1 && d.experts != 1 ? 1 : 0] = static_cast<std::uint64_t>(experts);
    specs.push_back({name, files.entry(like).type, shape});
  };
  for (moue::index_t layer = 0; layer < plan.layers(); ++layer) {
    anew[io::foreign_name(layer)] = anew[io::opening_name(layer)] = true;
    for (const auto part : {io::moe_part::router, io::moe_part::router_bias, io::moe_part::selection_bias})
      if (d.has(part)) {
        const auto name = d.tensor_name(layer, part);
        anew[name] = true;
        lay_out(name, name, true);
      }
    for (const auto& piece : pieces) {
      for (moue::index_t e = 0; e < d.experts; ++e) anew[detail::name_of(d, piece.stem, layer, e)] = true;
      for (moue::index_t e = 0; e < (piece.stacked ? 1 : experts); ++e)
        lay_out(detail::name_of(d, piece.stem, layer, e), detail::name_of(d, piece.stem, layer, 0), piece.stacked);
    }
  }
  for (const auto& name : files.names())
    if (!anew.contains(name) && !files.aliases().contains(name))
      specs.push_back({name, files.entry(name).type, files.entry(name).shape});
  for (const auto& spec : specs) bytes += io::detail::bytes_of(spec, o.out.string());
  std::printf("source       %s, %td mixture layers of %td experts, of which %td open to each layer\n",
              d.family.name.c_str(), d.layers(), d.experts, experts);
  std::printf("private      %td experts in place of %td, %s in all\n", d.layers() * experts, d.layers() * d.experts,
              size_text(bytes).c_str());
  if (o.dry_run) return;

  detail::make_folder(o.out);
  auto metadata = files.metadata();
  metadata.erase(io::conversion_key);
  io::string_map aliases;
  for (const auto& [alias, name] : files.aliases())
    if (!anew.contains(name)) aliases.emplace(alias, name);
  io::sharded_writer out(o.out, std::move(specs), o.shard_bytes, metadata, aliases, beside(config));
  progress shown(bytes);
  for (const auto& name : files.names())
    if (!anew.contains(name) && !files.aliases().contains(name)) copy_bytes(files.bytes(name), out, name, 0, shown);
  for (moue::index_t layer = 0; layer < plan.layers(); ++layer) {
    const auto& copies = open[static_cast<std::size_t>(layer)];
    for (const auto& piece : pieces)
      for (std::size_t e = 0; e < copies.size(); ++e) {
        const moue::index_t from_layer = copies[e].expert / d.experts, from = copies[e].expert % d.experts;
        auto stored = files.bytes(detail::name_of(d, piece.stem, from_layer, from));
        const auto each = stored.size() / static_cast<std::size_t>(piece.stacked ? d.experts : 1);
        if (piece.stacked) stored = stored.subspan(static_cast<std::size_t>(from) * each, each);
        copy_bytes(stored, out, detail::name_of(d, piece.stem, layer, static_cast<moue::index_t>(e)),
                   piece.stacked ? e * each : 0, shown);
      }
    for (const auto part : {io::moe_part::router, io::moe_part::router_bias, io::moe_part::selection_bias}) {
      if (!d.has(part)) continue;
      const auto name = d.tensor_name(layer, part);
      const auto own = files.bytes(name);
      const auto row = own.size() / static_cast<std::size_t>(d.experts);
      for (std::size_t e = 0; e < copies.size(); ++e) {
        if (copies[e].home >= 0)
          out.write(name, e * row, own.subspan(static_cast<std::size_t>(copies[e].home) * row, row));
        else if (part == io::moe_part::router)
          out.write(
              name, e * row,
              files.bytes(io::foreign_name(layer)).subspan(static_cast<std::size_t>(copies[e].foreign) * row, row));
        else
          write_numbers({part == io::moe_part::router_bias ? copies[e].opening : 0.0f}, files.entry(name).type, out,
                        name, e * row);
      }
    }
  }
  detail::finish(out, o);
}

}  // namespace converting
