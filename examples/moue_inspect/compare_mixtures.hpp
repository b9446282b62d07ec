// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How the mixtures of two checkpoints differ, whatever the names of their tensors: of a published and a fused layout, or
/// of a checkpoint and a GGUF file; and how what they do with these matrices differs.

#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "compare.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"
#include "moue/io/message.hpp"
#include "summary.hpp"

namespace inspect {

namespace io = moue::io;

namespace detail {

inline const char* name_of(io::moe_part part) {
  switch (part) {
    case io::moe_part::gate:
      return "gate";
    case io::moe_part::up:
      return "up";
    case io::moe_part::down:
      return "down";
    case io::moe_part::gate_bias:
      return "gate_bias";
    case io::moe_part::up_bias:
      return "up_bias";
    case io::moe_part::down_bias:
      return "down_bias";
    case io::moe_part::latent_in:
      return "latent_in";
    case io::moe_part::latent_out:
      return "latent_out";
    case io::moe_part::input_gate:
      return "input_gate";
    case io::moe_part::shared_gate:
      return "shared_gate";
    case io::moe_part::shared_up:
      return "shared_up";
    case io::moe_part::shared_down:
      return "shared_down";
    case io::moe_part::shared_self_gate:
      return "shared_self_gate";
    case io::moe_part::router:
      return "router";
    case io::moe_part::router_bias:
      return "router_bias";
    case io::moe_part::selection_bias:
      return "selection_bias";
  }
  return "";
}

inline const char* name_of(io::selection_score score) {
  switch (score) {
    case io::selection_score::logits:
      return "logits";
    case io::selection_score::sigmoid:
      return "sigmoids";
    case io::selection_score::softmax:
      return "softmax";
    case io::selection_score::root_of_softplus:
      return "square roots of softplus";
  }
  return "";
}

/// As single precision has it, in which GGUF files store such numbers.
inline std::string number_text(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(static_cast<float>(number)));
  return text;
}

}  // namespace detail

/// Prints a line for every number and rule of the mixtures that is not the same in both, tensors aside. Returns whether
/// all are.
inline bool print_rules(const io::moe_description& x, const io::moe_description& y) {
  bool same = true;
  const auto line = [&](const char* what, const auto& of) {
    const std::string first(of(x)), second(of(y));
    if (first == second) return;
    same = false;
    detail::line("different", std::string(what) + ": " + first + ", and " + second);
  };
  using description = io::moe_description;
  line("experts per token",
       [](const description& d) { return d.per_token > 0 ? std::to_string(d.per_token) : std::string("not known"); });
  line("gates", [](const description& d) { return io::name_of(d.gate); });
  line("scale of the gates", [](const description& d) { return detail::number_text(d.scale); });
  line("jitter", [](const description& d) { return detail::number_text(d.jitter); });
  line("selection by", [](const description& d) { return detail::name_of(d.family.selection); });
  line("groups", [](const description& d) {
    if (d.groups <= 1) return std::string("none");
    return std::to_string(d.selected_groups) + " of " + std::to_string(d.groups) + ", by their best " +
           std::to_string(d.family.group_best);
  });
  line("activation", [](const description& d) { return io::name_of(d.family.activation); });
  line("experts that return their input", [](const description& d) { return std::to_string(d.identities); });
  return same;
}

/// Whether a matrix of the mixture stands in codes, which are no numbers without their scales. Not for GGUF files.
inline bool in_codes(const io::moe_checkpoint& source) {
  const auto& d = source.description();
  for (moue::index_t layer = 0; layer < d.layers(); ++layer)
    for (const auto part : io::moe_parts)
      for (moue::index_t e = 0; d.has(part) && e < (io::moe_description::per_expert(part) ? d.experts : 1); ++e)
        if (!scheme_of(source, layer, part, e).empty()) return true;
  return false;
}

/// Prints a line for every part of a layer that is not the same in both, whatever its name and place there, and what they
/// have in common, after what `print_rules` does. Numbers are compared, not how they are stored. Returns whether all are
/// equal.
inline bool print_comparison(const io::moe_checkpoint& a, const io::moe_checkpoint& b) {
  const auto &x = a.description(), &y = b.description();
  detail::line("compared", io::detail::shown(a.path().native()) + " with " + io::detail::shown(b.path().native()) +
                               ", by the matrices of their mixtures");
  detail::line("families", x.family.name + " and " + y.family.name);
  const bool same_rules = print_rules(x, y);
  std::size_t same = 0, different = 0;
  if (x.layers() != y.layers() || x.experts != y.experts) {
    const auto sizes = [](const io::moe_description& d) {
      return std::to_string(d.layers()) + " layers of " + std::to_string(d.experts) + " experts";
    };
    detail::line("different", sizes(x) + ", and " + sizes(y));
    return false;
  }
  for (moue::index_t layer = 0; layer < x.layers(); ++layer)
    for (const auto part : io::moe_parts) {
      if (!x.has(part) && !y.has(part)) continue;
      const auto line = [&](const std::string& what) {
        ++different;
        std::printf("  layer %td and %td, %s: %s\n", x.model_layers[static_cast<std::size_t>(layer)],
                    y.model_layers[static_cast<std::size_t>(layer)], detail::name_of(part), what.c_str());
      };
      const auto here = x.shape(part), there = y.shape(part);
      if (!x.has(part) || !y.has(part)) {
        line(x.has(part) ? "only in the first" : "only in the second");
      } else if (here.rows != there.rows || here.cols != there.cols) {
        line(moue::detail::shape_text(here.rows, here.cols) + " and " +
             moue::detail::shape_text(there.rows, there.cols));
      } else {
        const moue::index_t copies = io::moe_description::per_expert(part) ? x.experts : 1;
        moue::index_t others = 0;
        distance all;
        for (moue::index_t e = 0; e < copies; ++e) {
          const auto p = a.read<double>(layer, part, e), q = b.read<double>(layer, part, e);
          others += p == q ? 0 : 1;
          for (std::size_t i = 0; i < p.size(); ++i) all.add(p[i], q[i]);
        }
        if (others == 0)
          ++same;
        else
          line((copies > 1 ? std::to_string(others) + " of " + std::to_string(copies) + " experts differ "
                           : std::string("differs ")) +
               all.text());
      }
    }
  detail::line("the same", std::to_string(same) + " parts of layers; " + std::to_string(different) + " are not");
  return different == 0 && same_rules;
}

}  // namespace inspect
