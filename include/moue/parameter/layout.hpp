// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a policy declares, and the list of a model's tensors.

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// How a fresh parameter is filled.
struct initializer {
  /// Distributions of numbers.
  enum class kind { constant, normal, uniform };
  kind what = kind::constant;  ///< the distribution
  double value = 0;            ///< the constant, the standard deviation, or the half-width of the interval around 0

  /// Every number is `value`.
  static constexpr initializer constant(double value) { return {kind::constant, value}; }
  /// Normal around 0.
  static constexpr initializer normal(double deviation) { return {kind::normal, deviation}; }
  /// Uniform in [-bound, bound].
  static constexpr initializer uniform(double bound) { return {kind::uniform, bound}; }
};

/// What a parameter belongs to: one tensor for the whole model, one per layer, or one per physical expert.
enum class scope { model, layer, expert };

/// One parameter as a policy declares it. A matrix `[rows, cols]`; vectors are one row.
struct parameter_spec {
  std::string_view name;     ///< unique among those of a policy
  index_t rows = 1;          ///< of the matrix
  index_t cols = 1;          ///< of the matrix
  initializer init = {};     ///< zeros, if nothing else is said
  scope per = scope::layer;  ///< without effect for experts: theirs are per expert
  bool trained = true;       ///< false: a buffer that a controller sets; it gets no gradient
  bool decayed = false;      ///< whether weight decay suits it (weight matrices, not scales and biases)
};

/// One tensor of a model: a declared parameter with its place.
struct tensor_info {
  std::string name;      ///< such as "experts.3.up" or "layers.0.router.weight"
  index_t rows = 0;      ///< of the matrix
  index_t cols = 0;      ///< of the matrix
  index_t offset = 0;    ///< first element, counted in elements of the owned buffer
  index_t layer = -1;    ///< the layer it belongs to, or -1
  index_t expert = -1;   ///< the physical expert it belongs to, or -1
  initializer init;      ///< as declared
  bool trained = true;   ///< as declared
  bool decayed = false;  ///< as declared

  /// Elements.
  index_t size() const { return rows * cols; }
};

/// The list of a model's tensors, in a fixed order: model-wide, then per layer, then per expert. Built by
/// `mixture::layout`; immutable and shared by weights, gradients, optimisers and files.
class parameter_layout {
 public:
  /// How many tensors there are.
  index_t tensors() const { return static_cast<index_t>(infos_.size()); }
  /// Elements of all tensors together.
  index_t elements() const { return elements_; }
  /// Throws if there is none at this position.
  const tensor_info& operator[](index_t tensor) const {
    detail::require_index(tensor, tensors(), where, "tensor");
    return infos_[static_cast<std::size_t>(tensor)];
  }
  /// The first tensor.
  auto begin() const { return infos_.begin(); }
  /// Past the last tensor.
  auto end() const { return infos_.end(); }

  /// Physical experts, also those without parameters.
  index_t experts() const { return static_cast<index_t>(expert_first_.size()); }
  /// Position of the first tensor of physical expert `e`.
  index_t expert_first(index_t e) const {
    detail::require_index(e, experts(), where, "expert");
    return expert_first_[static_cast<std::size_t>(e)];
  }
  /// Position of the tensor that router parameter `column` uses at `layer`.
  index_t router(index_t layer, index_t column) const {
    detail::require_index(column, router_tensors_, where, "parameter of a router");
    detail::require_index(layer, static_cast<index_t>(router_.size()) / router_tensors_, where, "layer");
    return router_[static_cast<std::size_t>(layer * router_tensors_ + column)];
  }
  /// Parameters of a layer's router.
  index_t router_tensors() const { return router_tensors_; }

  /// Position of the tensor called `name`. Linear in the number of tensors. Throws if there is none.
  index_t find(std::string_view name) const {
    for (index_t i = 0; i < tensors(); ++i)
      if ((*this)[i].name == name) return i;
    throw error("parameters", "no tensor is called '" + std::string(name) + "'",
                tensors() ? "names look like '" + (*this)[0].name + "' and '" + (*this)[tensors() - 1].name + "'"
                          : std::string("the model has no tensors"));
  }

  /// Whether the tensors of `other` have the same shapes in the same order, so that numbers can be exchanged.
  bool same_shapes(const parameter_layout& other) const {
    return this == &other || std::equal(begin(), end(), other.begin(), other.end(), [](const auto& a, const auto& b) {
             return a.rows == b.rows && a.cols == b.cols && a.expert == b.expert;
           });
  }

  /// Appends a tensor; used while a model describes itself.
  index_t add(std::string name, const parameter_spec& spec, index_t layer, index_t expert) {
    detail::require(
        spec.rows >= 0 && spec.cols >= 0, "parameters",
        [&] { return "'" + name + "' has shape " + detail::shape_text(spec.rows, spec.cols); },
        "give sizes that are not negative");
    constexpr index_t most =
        (std::numeric_limits<index_t>::max)() / 16;  // bytes of any number type can be counted, too
    detail::require(
        spec.cols == 0 || spec.rows <= (most - elements_) / spec.cols, "parameters",
        [&] {
          return "with '" + name + "' " + detail::shape_text(spec.rows, spec.cols) +
                 " the number of elements overflows";
        },
        "give smaller sizes");
    infos_.push_back(
        {std::move(name), spec.rows, spec.cols, elements_, layer, expert, spec.init, spec.trained, spec.decayed});
    elements_ += spec.rows * spec.cols;
    return tensors() - 1;
  }
  /// Says that the tensors added next are those of one more expert; used while a model describes itself.
  void begin_expert() { expert_first_.push_back(tensors()); }
  /// Says which tensors the routers use: `table` [layers, selected]; used while a model describes itself.
  void set_router(index_t selected, std::vector<index_t> table) {
    router_tensors_ = selected;
    router_ = std::move(table);
  }

 private:
  static constexpr std::string_view where = "parameters";

  std::vector<tensor_info> infos_;
  std::vector<index_t> expert_first_;
  std::vector<index_t> router_;
  index_t router_tensors_ = 0;
  index_t elements_ = 0;
};

}  // namespace moue::inline v0_1
