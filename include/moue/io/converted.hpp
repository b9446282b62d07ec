// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Converted checkpoints: those of a public family with the connections that a conversion adds. All tensors of the source
/// stand in them as they were, so whoever knows the family still reads the source model; what is new is a router row and
/// an opening bias for every foreign connection, in tensors of their own, and the plan, in the metadata.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/convert/plan.hpp"
#include "moue/error.hpp"
#include "moue/io/json.hpp"
#include "moue/io/layouts/mixture.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"
#include "moue/io/message.hpp"
#include "moue/topology/always_on.hpp"
#include "moue/topology/layer_local.hpp"

namespace moue::inline v0_1::io {

/// The metadata entry that holds the plan.
inline constexpr const char* conversion_key = "moue.conversion";

/// Where mixture layer `layer` keeps its foreign router rows [foreign candidates, width].
inline std::string foreign_name(index_t layer) { return "moue.layers." + std::to_string(layer) + ".router.foreign"; }
/// Where it keeps their opening biases [1, foreign candidates]; minus infinity closes a connection.
inline std::string opening_name(index_t layer) { return "moue.layers." + std::to_string(layer) + ".router.opening"; }

/// The topology of a recognised checkpoint as it is, with the ids of `mixture_of`.
inline always_on<layer_local> topology_of(const moe_description& d) {
  moue::detail::require(
      d.identities == 0, d.family.name,
      [] {
        return std::string("some experts of each layer return their input; conversion does not know such experts");
      },
      "convert a model without them");
  moue::detail::require(
      !d.has(moe_part::input_gate) && d.layout.folds.empty() && !d.layout.experts.flat, d.family.name,
      [&] {
        return d.has(moe_part::input_gate) ? std::string("each expert's row of the router gates its input")
               : d.layout.experts.flat     ? std::string("the experts of a layer stand in one matrix")
                                           : std::string("matrices are products of several tensors");
      },
      "conversion knows no such layout; convert another model");
  moue::detail::require(
      d.latent == 0, d.family.name,
      [] { return std::string("the experts of a layer share the projections around them"); },
      "an expert of another layer has no place for its own; convert another model");
  return {{.depth = d.layers(), .per_layer = d.experts}, d.shared_hidden > 0 ? 1 : 0, 0};
}

/// The plan as text for the metadata.
inline std::string text_of(const convert::plan& plan) {
  auto foreign = nlohmann::json::array();
  for (index_t layer = 0; layer < plan.layers(); ++layer) foreign.push_back(plan.foreign(layer));
  return nlohmann::json{
      {"version", 1}, {"home", plan.home}, {"universal", plan.universal}, {"foreign", std::move(foreign)}}
      .dump();
}

/// Whether a checkpoint was made by `moue_convert`.
inline bool is_converted(const checkpoint& files) { return files.metadata().contains(conversion_key); }

namespace detail {

[[noreturn]] inline void refuse_plan(const std::string& where, const std::string& what) {
  throw error(where, what, "convert the source again, with moue_convert", error_kind::content);
}

/// The plan that `text_of` made this text from. `where` names the checkpoint in errors.
inline convert::plan read_plan(std::string_view text, const moe_description& d, const std::string& where) {
  const auto refuse = [&](const std::string& what) { refuse_plan(where, what); };
  convert::plan plan{d.experts, {}, convert::wiring::of(topology_of(d))};
  const auto add_ids = [&](const nlohmann::json& list, std::vector<index_t>& ids) {
    for (const auto& entry : list) {
      const auto id = whole_number(entry);
      if (!id) refuse("has a plan that lists " + shown(entry.dump()) + " for an expert");
      ids.push_back(*id);
    }
  };
  try {
    const auto json = read_tree(text, where + ", the plan in its metadata");
    if (whole_number(json.at("version")) != 1) refuse("was converted by another version");
    if (whole_number(json.at("home")) != d.experts) refuse("has a plan for another number of experts per layer");
    const auto& foreign = json.at("foreign");
    if (foreign.size() != static_cast<std::size_t>(d.layers())) refuse("has a plan for another number of layers");
    add_ids(json.at("universal"), plan.universal);
    for (index_t layer = 0; layer < d.layers(); ++layer)
      add_ids(foreign.at(static_cast<std::size_t>(layer)), plan.topology.rows[static_cast<std::size_t>(layer)]);
  } catch (const nlohmann::json::exception&) {
    refuse("has a plan in its metadata that cannot be read");
  }
  try {
    (void)connectivity(plan.topology);
  } catch (const error& problem) {
    refuse("has a plan that is none: " + std::string(problem.what()));
  }
  const auto require_routed = [&](const auto& ids) {
    for (const index_t e : ids)
      if (e >= d.layers() * d.experts) refuse("has a plan that connects shared experts, or some that it has not");
  };
  require_routed(plan.universal);
  for (index_t layer = 0; layer < plan.layers(); ++layer) require_routed(plan.foreign(layer));
  return plan;
}

}  // namespace detail

/// The plan of a converted checkpoint. Throws if there is none, or one that does not fit the checkpoint.
inline convert::plan plan_of(const moe_checkpoint& source) {
  const auto where = detail::shown(source.files().path().native());
  const auto text = source.files().metadata().find(conversion_key);
  if (text == source.files().metadata().end())
    detail::refuse_plan(where, "was not converted: its metadata has no 'moue.conversion'");
  return detail::read_plan(text->second, source.description(), where);
}

/// Fills the weights of `convert::moe_to_moue(mixture_of(description), plan)`: what the source had from the family's
/// tensors, foreign rows and openings from those of the conversion; selection biases of foreign candidates are 0. Throws
/// as `load` of a plain checkpoint does.
template <Storage S>
void load(const moe_checkpoint& source, const convert::plan& plan, parameters<S>& weights) {
  const auto& d = source.description();
  const auto& files = source.files();
  for (index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& info = weights.layout()[i];
    const std::span<S> out(weights[i].data, static_cast<std::size_t>(info.size()));
    const bool foreign = info.name.ends_with(".router.foreign");
    if (foreign || info.name.ends_with(".router.opening")) {
      const auto name = foreign ? foreign_name(info.layer) : opening_name(info.layer);
      moue::detail::require(
          info.rows * info.cols == static_cast<index_t>(plan.foreign(info.layer).size()) * (foreign ? d.width : 1) &&
              files.elements(name) == out.size(),
          detail::shown(files.path().native()),
          [&] {
            return "the mixture wants '" + info.name + "' " + moue::detail::shape_text(info.rows, info.cols) +
                   ", but " + detail::shown(name) + " has " + std::to_string(files.elements(name)) + " elements";
          },
          "make the mixture with the plan of this checkpoint");
      files.read(name, 0, out);
    } else if (info.name.ends_with(".selection_bias") && info.cols > d.experts) {
      std::fill(out.begin(), out.end(), S(compute_t<S>(0)));
      source.read(info.layer, moe_part::selection_bias, 0, out.first(static_cast<std::size_t>(d.experts)));
    } else if (info.size() > 0) {
      const auto at = address_of(d, info);
      source.read(at.layer, at.part, at.expert, out);
    }
  }
}

}  // namespace moue::inline v0_1::io
