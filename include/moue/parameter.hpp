// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Named parameters: what a policy declares, where the numbers live, and their gradients.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"

namespace moue {

/// How a fresh parameter is filled.
struct initializer {
  enum class kind { constant, normal, uniform };
  kind what = kind::constant;
  double value = 0;  ///< the constant, the standard deviation, or the half-width of the interval around 0

  static constexpr initializer constant(double value) { return {kind::constant, value}; }
  static constexpr initializer normal(double deviation) { return {kind::normal, deviation}; }
  static constexpr initializer uniform(double bound) { return {kind::uniform, bound}; }
};

/// What a parameter belongs to: one tensor for the whole model, one per layer, or one per physical expert.
enum class scope { model, layer, expert };

/// One parameter as a policy declares it. A matrix `[rows, cols]`; vectors are one row.
struct parameter_spec {
  std::string_view name;
  index_t rows = 1;
  index_t cols = 1;
  initializer init = {};
  scope per = scope::layer;
  bool trained = true;   ///< false: a buffer that a controller sets; it gets no gradient
  bool decayed = false;  ///< whether weight decay suits it (weight matrices, not scales and biases)
};

/// One tensor of a model: a declared parameter with its place.
struct tensor_info {
  std::string name;  ///< such as "experts.3.up" or "layers.0.router.weight"
  index_t rows = 0;
  index_t cols = 0;
  index_t offset = 0;   ///< first element, counted in elements of the owned buffer
  index_t layer = -1;   ///< the layer it belongs to, or -1
  index_t expert = -1;  ///< the physical expert it belongs to, or -1
  initializer init;
  bool trained = true;
  bool decayed = false;

  index_t size() const { return rows * cols; }
};

/// The list of a model's tensors, in a fixed order: model-wide, then per layer, then per expert. Built by
/// `mixture::layout`; immutable and shared by weights, gradients, optimisers and files.
class parameter_layout {
 public:
  index_t tensors() const { return static_cast<index_t>(infos_.size()); }
  /// Elements of all tensors together.
  index_t elements() const { return elements_; }
  const tensor_info& operator[](index_t tensor) const { return infos_[static_cast<std::size_t>(tensor)]; }
  auto begin() const { return infos_.begin(); }
  auto end() const { return infos_.end(); }

  index_t experts() const { return static_cast<index_t>(expert_first_.size()); }
  /// Position of the first tensor of physical expert `e`.
  index_t expert_first(index_t e) const { return expert_first_[static_cast<std::size_t>(e)]; }
  /// Position of the tensor that router parameter `column` uses at `layer`.
  index_t router(index_t layer, index_t column) const {
    return router_[static_cast<std::size_t>(layer * router_tensors_ + column)];
  }
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
    infos_.push_back(
        {std::move(name), spec.rows, spec.cols, elements_, layer, expert, spec.init, spec.trained, spec.decayed});
    elements_ += spec.rows * spec.cols;
    return tensors() - 1;
  }
  void begin_expert() { expert_first_.push_back(tensors()); }
  void set_router(index_t selected, std::vector<index_t> table) {
    router_tensors_ = selected;
    router_ = std::move(table);
  }

 private:
  std::vector<tensor_info> infos_;
  std::vector<index_t> expert_first_;
  std::vector<index_t> router_;
  index_t router_tensors_ = 0;
  index_t elements_ = 0;
};

/// The numbers behind a layout, stored as `S`: either owned in one contiguous buffer, or external, tensor by tensor, from
/// the caller, who keeps them alive. Row-major, rows densely packed.
template <Storage S>
class parameters {
 public:
  using value_type = S;

  parameters() = default;
  /// Owned, all zero.
  explicit parameters(std::shared_ptr<const parameter_layout> layout) : layout_(std::move(layout)) {
    storage_.assign(static_cast<std::size_t>(layout_->elements()), S(0));
    pointers_.reserve(static_cast<std::size_t>(layout_->tensors()));
    for (const auto& info : *layout_) pointers_.push_back(storage_.data() + info.offset);
  }
  /// External: `tensors[i]` points at the elements of tensor `i`.
  parameters(std::shared_ptr<const parameter_layout> layout, std::span<S* const> tensors)
      : layout_(std::move(layout)), pointers_(tensors.begin(), tensors.end()) {
    detail::require(
        static_cast<index_t>(tensors.size()) == layout_->tensors(), "parameters",
        [&] {
          return std::to_string(tensors.size()) + " pointers were given for " + std::to_string(layout_->tensors()) +
                 " tensors";
        },
        "give one pointer per tensor, in the order of the layout");
    for (index_t i = 0; i < layout_->tensors(); ++i)
      detail::require(
          tensors[static_cast<std::size_t>(i)] != nullptr || (*layout_)[i].size() == 0, "parameters",
          [&] { return "the pointer given for '" + (*layout_)[i].name + "' is null"; }, "give memory for every tensor");
  }
  parameters(const parameters& other) : layout_(other.layout_), storage_(other.storage_), pointers_(other.pointers_) {
    rebase(other);
  }
  parameters& operator=(const parameters& other) {
    if (this != &other) *this = parameters(other);
    return *this;
  }
  parameters(parameters&&) noexcept = default;  // a moved vector keeps its buffer, so the pointers stay right
  parameters& operator=(parameters&&) noexcept = default;
  ~parameters() = default;

  const parameter_layout& layout() const { return *layout_; }
  const std::shared_ptr<const parameter_layout>& shared_layout() const { return layout_; }
  bool owned() const { return !storage_.empty() || layout_->elements() == 0; }

  matrix_view<S> operator[](index_t tensor) {
    const auto& info = (*layout_)[tensor];
    return {pointers_[static_cast<std::size_t>(tensor)], info.rows, info.cols};
  }
  matrix_view<const S> operator[](index_t tensor) const {
    const auto& info = (*layout_)[tensor];
    return {pointers_[static_cast<std::size_t>(tensor)], info.rows, info.cols};
  }
  /// The tensor called `name`; linear search, not for the hot path.
  matrix_view<S> operator[](std::string_view name) { return (*this)[layout_->find(name)]; }
  matrix_view<const S> operator[](std::string_view name) const { return (*this)[layout_->find(name)]; }

 private:
  void rebase(const parameters& other) {
    if (storage_.empty()) return;
    for (std::size_t i = 0; i < pointers_.size(); ++i)
      pointers_[i] = storage_.data() + (other.pointers_[i] - other.storage_.data());
  }

  std::shared_ptr<const parameter_layout> layout_;
  std::vector<S> storage_;
  std::vector<S*> pointers_;
};

/// One gradient buffer per parameter, in the compute type, plus a mark per physical expert. Passes add to it. An expert
/// that no token reached keeps exact zeros and an unset mark, so that an optimiser can leave it alone.
template <class C>
class gradients {
 public:
  explicit gradients(std::shared_ptr<const parameter_layout> layout)
      : values_(std::move(layout)), touched_(static_cast<std::size_t>(values_.layout().experts()), 0) {}
  /// In external memory, which may lie on a device: a tensor each, and `marks` [experts], all of them zero. Null `marks`
  /// are owned, hence on the host.
  gradients(std::shared_ptr<const parameter_layout> layout, std::span<C* const> tensors, std::uint8_t* marks = nullptr)
      : values_(std::move(layout), tensors),
        touched_(marks != nullptr ? 0 : static_cast<std::size_t>(values_.layout().experts()), 0),
        external_(marks) {}

  const parameter_layout& layout() const { return values_.layout(); }
  matrix_view<C> operator[](index_t tensor) { return values_[tensor]; }
  matrix_view<const C> operator[](index_t tensor) const { return values_[tensor]; }
  matrix_view<C> operator[](std::string_view name) { return values_[name]; }
  matrix_view<const C> operator[](std::string_view name) const { return values_[name]; }

  /// This and what builds on it read the marks: not on the host if they lie on a device.
  bool touched(index_t expert) const { return (external_ != nullptr ? external_ : touched_.data())[expert] != 0; }
  void touch(index_t expert) { marks()[expert] = 1; }
  bool owns_marks() const { return external_ == nullptr; }
  /// [experts] not 0 where an expert was touched.
  vector_view<std::uint8_t> marks() { return {external_ != nullptr ? external_ : touched_.data(), layout().experts()}; }
  vector_view<const std::uint8_t> marks() const {
    return {external_ != nullptr ? external_ : touched_.data(), layout().experts()};
  }
  /// Whether tensor `i` may hold anything but zeros: always for the router, only if touched for an expert.
  bool live(index_t tensor) const {
    const index_t expert = layout()[tensor].expert;
    return expert < 0 || touched(expert);
  }

  /// Back to zero. Costs nothing for experts that were not touched.
  void zero() {
    for (index_t i = 0; i < layout().tensors(); ++i)
      if (live(i)) std::fill_n(values_[i].data, layout()[i].size(), C(0));
    for (auto& mark : marks()) mark = 0;
  }

 private:
  parameters<C> values_;
  std::vector<std::uint8_t> touched_;
  std::uint8_t* external_ = nullptr;
};

namespace detail {

/// Throws if the weights have none.
template <Storage S>
const std::shared_ptr<const parameter_layout>& layout_of(const parameters<S>& weights, std::string_view where) {
  require(
      weights.shared_layout() != nullptr, where, [] { return std::string("the weights are empty"); },
      "give it weights that have a layout");
  return weights.shared_layout();
}

/// A counter-based generator (SplitMix64's mixing function): the same number for the same position everywhere.
constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// Uniform in (0, 1), with 53 random bits.
constexpr double uniform_at(std::uint64_t key, std::uint64_t position) {
  return (static_cast<double>(mix(key ^ mix(position)) >> 11) + 0.5) * 0x1p-53;
}

inline double normal_at(std::uint64_t key, std::uint64_t position) {
  constexpr double two_pi = 6.283185307179586476925;
  return std::sqrt(-2.0 * std::log(uniform_at(key, 2 * position))) *
         std::cos(two_pi * uniform_at(key, 2 * position + 1));
}

}  // namespace detail

/// Fills every tensor as its declaration asks. A tensor's numbers depend on `seed` and its name alone, so models that
/// share a tensor's name and shape start alike in it.
template <Storage S>
void initialize(parameters<S>& values, std::uint64_t seed) {
  for (index_t i = 0; i < values.layout().tensors(); ++i) {
    const auto& info = values.layout()[i];
    std::uint64_t key = detail::mix(seed);
    for (const char c : info.name) key = detail::mix(key ^ static_cast<unsigned char>(c));
    auto* out = values[i].data;
    for (index_t j = 0; j < info.size(); ++j) {
      const auto position = static_cast<std::uint64_t>(j);
      double value = info.init.value;
      if (info.init.what == initializer::kind::normal) value *= detail::normal_at(key, position);
      if (info.init.what == initializer::kind::uniform) value *= 2 * detail::uniform_at(key, position) - 1;
      out[j] = S(static_cast<compute_t<S>>(value));
    }
  }
}

}  // namespace moue
