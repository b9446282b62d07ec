// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How the mixtures of two checkpoints differ that have other names: a checkpoint and a GGUF file.

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

}  // namespace detail

/// Prints a line for every part of a layer that is not the same in both, whatever its name and place there, and what they
/// have in common. Numbers are compared, not how they are stored. Returns whether all are equal.
inline bool print_comparison(const io::moe_checkpoint& a, const io::moe_checkpoint& b) {
  const auto &x = a.description(), &y = b.description();
  detail::line("compared", io::detail::shown(a.path().native()) + " with " + io::detail::shown(b.path().native()) +
                               ", by the matrices of their mixtures");
  detail::line("families", x.family.name + " and " + y.family.name);
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
  return different == 0;
}

}  // namespace inspect
