// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How large a mixture is: what is stored, what one token uses of it, and what that costs.

#include "moue/parameter.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// Sizes of a mixture, the host model around it not included.
struct model_size {
  index_t physical = 0;  ///< elements of all tensors, each once
  index_t trained = 0;   ///< of these, elements of tensors that are trained
  index_t unshared = 0;  ///< what `physical` would be if no two layers shared an expert
  /// Parameters that one token uses on its way through all layers: the routers, and at each layer its always-on experts and
  /// as many others as selection takes at most. An expert that a token meets at two layers counts twice. Where candidates
  /// differ in size, their mean counts.
  double active = 0;
  /// Operations of forward for one token, two for each element of a matrix of an active expert or router that it is
  /// multiplied with; backward takes about twice as many. Of a router's model-wide matrix with a row per expert, the rows
  /// of the layer's candidates count. What is done number by number (activations, norms, gates) does not.
  double flops = 0;
};

namespace detail {

/// Of one expert, or of a mean one.
struct expert_size {
  double elements = 0;
  double products = 0;  // elements of matrices

  void add(const tensor_info& tensor) {
    elements += static_cast<double>(tensor.size());
    if (tensor.rows > 1 && tensor.cols > 1) products += static_cast<double>(tensor.size());
  }
};

inline expert_size size_of_expert(const parameter_layout& layout, index_t expert) {
  expert_size size;
  for (index_t i = layout.expert_first(expert); i < layout.tensors() && layout[i].expert == expert; ++i)
    size.add(layout[i]);
  return size;
}

}  // namespace detail

/// The sizes of `model`, a `mixture`. O(tensors + virtual width), nothing is run.
template <class MixtureT>
model_size summarise_size(const MixtureT& model) {
  const auto tensors = model.layout();
  const parameter_layout& layout = *tensors;
  model_size size{.physical = layout.elements()};
  double unshared = 0;
  for (const auto& tensor : layout) {
    if (tensor.trained) size.trained += tensor.size();
    if (tensor.expert >= 0) continue;
    size.active += static_cast<double>(tensor.size());
    unshared += static_cast<double>(tensor.size());
  }
  for (index_t layer = 0; layer < model.layers(); ++layer) {
    const auto candidates = model.connections().candidates(layer);
    const auto columns = static_cast<index_t>(candidates.size());
    double products = 0;
    for (index_t i = 0; i < layout.router_tensors(); ++i) {
      const auto& tensor = layout[layout.router(layer, i)];
      if (tensor.rows <= 1 || tensor.cols <= 1) continue;
      const bool row_per_expert = tensor.layer < 0 && tensor.rows == model.experts();
      products += static_cast<double>((row_per_expert ? columns : tensor.rows) * tensor.cols);
    }
    const double taken =
        static_cast<double>(model.router().select.max_selected(columns)) / static_cast<double>(columns);
    const auto use = [&](auto experts, double times) {
      for (const auto e : experts) {
        const auto expert = detail::size_of_expert(layout, e);
        unshared += expert.elements;
        size.active += times * expert.elements;
        products += times * expert.products;
      }
    };
    use(candidates, taken);
    use(model.connections().always(layer), 1);
    size.flops += 2 * products;
  }
  size.unshared = static_cast<index_t>(unshared);
  return size;
}

}  // namespace moue::inline v0_1
