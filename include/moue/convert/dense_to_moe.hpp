// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Dense feed-forward blocks, or the experts of a coarser mixture, made into the experts of a finer one.

#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "moue/convert/ffn.hpp"
#include "moue/error.hpp"
#include "moue/parameter.hpp"
#include "moue/topology/connectivity.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::convert {

/// Which matrices of an expert take the factor on its output.
enum class spread {
  down,   ///< `down` alone: exact
  evenly  ///< all alike, as Megatron-LM does: exact only if the activation is homogeneous, so not for SwiGLU
};

/// Cuts every block into `parts` experts of neighbouring hidden units and makes `copies` of that: expert c · parts + g
/// has slice g. With parts = 1 this is sparse upcycling (arXiv 2212.05055); with more, granular upcycling
/// (arXiv 2410.07524), fine-grained segmentation (arXiv 2401.06066), or, with one copy, a partition.
///
/// If the router rows of a copy's parts are equal (`repeat_rows`), a token takes them together or not at all, and the
/// mixture equals the block: exactly so for any router if the selected gates sum to `gates_sum` and k is a multiple of
/// `parts`. For gates that are not renormalised the sum depends on the token; `k / experts` is right for equal logits
/// and for no others.
struct granularity {
  index_t copies = 1;           ///< of each part
  index_t parts = 1;            ///< slices of a block
  double gates_sum = 1;         ///< what the gates of a token sum to
  spread where = spread::down;  ///< which matrices take the factor
  bool squared = false;         ///< whether the activation squares, which `spread::evenly` needs to know

  index_t experts() const { return copies * parts; }
  /// By what a selected expert's output must be multiplied.
  double output_factor() const { return static_cast<double>(parts) / gates_sum; }
  /// The factor of each matrix.
  cut_factors factors(bool gated) const {
    const double all = output_factor();
    const double bias = all / static_cast<double>(parts);
    if (where == spread::down) return {1, 1, all, bias};
    const double each = gated || squared ? std::cbrt(all) : std::sqrt(all);
    return {each, each, each, bias};
  }
};

/// Writes expert `expert` of the experts that `how` makes of `source`. Units before `first` are left to shared experts.
template <class From, class To>
void upcycle_expert(const ffn<const From>& source, const granularity& how, index_t expert, const ffn<To>& out,
                    index_t first = 0) {
  const index_t units = source.hidden() - first;
  moue::detail::require(
      how.parts > 0 && units % how.parts == 0 && expert >= 0 && expert < how.experts(), "convert",
      [&] {
        return "expert " + std::to_string(expert) + " of " + std::to_string(how.experts()) + " was to be a part of " +
               std::to_string(units) + " hidden units in " + std::to_string(how.parts);
      },
      "choose parts that divide the hidden units");
  const index_t size = units / how.parts;
  write_expert(source, hidden_units(first + expert % how.parts * size, size), how.factors(source.gate.data != nullptr),
               out);
}

/// Writes shared expert `expert` of those that take hidden units from the front of `source`, `out.hidden()` each, with
/// gate 1. The routed experts carry the output bias.
template <class From, class To>
void upcycle_shared_expert(const ffn<const From>& source, index_t expert, const ffn<To>& out) {
  write_expert(source, hidden_units(expert * out.hidden(), out.hidden()), cut_factors{1, 1, 1, 0}, out);
}

/// Row c · parts + g of `to` becomes row c of `from`, so that the parts of a copy share their logit. `from` may be the
/// first rows of `to`.
template <class From, class To>
void repeat_rows(matrix_view<const From> from, index_t parts, matrix_view<To> to) {
  moue::detail::require(
      parts > 0 && to.rows == from.rows * parts && to.cols == from.cols, "convert",
      [&] {
        return moue::detail::shape_text(from.rows, from.cols) + " was to be repeated " + std::to_string(parts) +
               " times into " + moue::detail::shape_text(to.rows, to.cols);
      },
      "give [copies, width] and [copies parts, width]");
  for (index_t i = to.rows; i-- > 0;)  // from the back: a row is read before it is overwritten
    for (index_t j = 0; j < to.cols; ++j) to(i, j) = detail::scaled<To>(from(i / parts, j), 1);
}

/// Fills the experts of `layer`, always-on ones too, from `sources`: one block of which all copies are made, or one per
/// copy. Returns `how` with the copies and parts that follow from the shapes. Throws if hidden sizes do not add up. The
/// router is yours: give the parts of a copy equal rows (`repeat_rows`).
template <class From, Storage S>
granularity upcycle_layer(std::span<const ffn<const From>> sources, const connectivity& connections, index_t layer,
                          parameters<S>& weights, granularity how = {}) {
  using moue::detail::require;
  const auto routed = connections.candidates(layer);
  const auto shared = connections.always(layer);
  require(
      !sources.empty(), "convert", [] { return std::string("no block was given"); }, "give at least one");
  index_t first = 0;
  for (std::size_t i = 0; i < shared.size(); ++i) {
    const auto out = expert_ffn(weights, shared[i]);
    upcycle_shared_expert(sources.front(), static_cast<index_t>(i), out);
    first += out.hidden();
  }
  const index_t units = sources.front().hidden() - first;
  const index_t size = expert_ffn(weights, routed.front()).hidden();
  const auto count = static_cast<index_t>(routed.size()), blocks = static_cast<index_t>(sources.size());
  how.parts = size > 0 ? units / size : 0;
  require(
      how.parts > 0 && how.parts * size == units && count % how.parts == 0 &&
          (blocks == 1 || (blocks * how.parts == count && shared.empty())),
      "convert",
      [&] {
        return std::to_string(count) + " experts of " + std::to_string(size) + " hidden units were to be made of " +
               std::to_string(blocks) + " blocks with " + std::to_string(units) + " each to share out";
      },
      "let every block be a whole number of experts, and give one block, or one for each copy and no shared experts");
  how.copies = count / how.parts;
  for (index_t i = 0; i < count; ++i)
    upcycle_expert(sources[blocks == 1 ? 0 : static_cast<std::size_t>(i / how.parts)], how, i,
                   expert_ffn(weights, routed[static_cast<std::size_t>(i)]), first);
  return how;
}

/// The same from one block.
template <class From, Storage S>
granularity upcycle_layer(const ffn<const From>& source, const connectivity& connections, index_t layer,
                          parameters<S>& weights, const granularity& how = {}) {
  return upcycle_layer(std::span<const ffn<const From>>(&source, 1), connections, layer, weights, how);
}

}  // namespace moue::inline v0_1::convert
