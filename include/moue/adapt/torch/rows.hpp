// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Tensors of torch as views of the library, and what is refused on the way.

#include <ATen/core/Tensor.h>
#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "moue/error.hpp"
#include "moue/gradients.hpp"
#include "moue/parameter.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1 {
namespace detail {

template <class S>
consteval at::ScalarType torch_type_of() {
  static_assert(
      std::is_same_v<S, double> || std::is_same_v<S, float> || std::is_same_v<S, bf16> || std::is_same_v<S, half>,
      "moue: torch has no tensors of this type; store as double, float, moue::bf16 or moue::half");
  if constexpr (std::is_same_v<S, double>)
    return at::kDouble;
  else if constexpr (std::is_same_v<S, float>)
    return at::kFloat;
  else if constexpr (std::is_same_v<S, bf16>)
    return at::kBFloat16;
  else
    return at::kHalf;
}
template <class S>
inline constexpr at::ScalarType torch_type = torch_type_of<S>();

inline constexpr std::string_view in_torch = "torch";

/// A dense tensor on `device`.
inline void check_place(std::string_view name, const at::Tensor& t, at::Device device) {
  require(
      t.defined(), in_torch, [&] { return std::string(name) + " is an undefined tensor"; }, "give one with numbers");
  require(
      (device.has_index() ? t.device() == device : t.device().type() == device.type()) && t.layout() == at::kStrided,
      in_torch,
      [&] {
        return std::string(name) + " is on device " + t.device().str() +
               (t.layout() == at::kStrided ? "" : ", and not dense");
      },
      "give a dense tensor on " + (device.is_cpu() ? std::string("the CPU") : device.str()) +
          ", where this mixture runs");
}
/// That holds `type`.
inline void check_tensor(std::string_view name, const at::Tensor& t, at::ScalarType type, at::Device device) {
  check_place(name, t, device);
  require(
      t.scalar_type() == type, in_torch,
      [&] { return std::string(name) + " has dtype " + at::toString(t.scalar_type()); },
      std::string("give one of ") + at::toString(type));
}

/// Where the tensors of a mixture lie: with the first of its weights, if that is a place where it runs.
inline at::Device device_of(bool on_host, at::TensorList weights) {
  const auto type = on_host ? at::kCPU : at::kCUDA;
  const bool there = !weights.empty() && weights[0].defined() && weights[0].device().type() == type;
  return there ? weights[0].device() : at::Device(type);
}

inline at::Tensor empty_tensor(at::IntArrayRef sizes, at::ScalarType type, at::Device device) {
  return at::empty(sizes, at::TensorOptions().dtype(type).device(device));
}

template <class T>
T* numbers_of(const at::Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

/// Dense rows of somebody else's, as long as they lie there.
template <class T>
at::Tensor tensor_over(const matrix_view<T>& m, at::Device device) {
  using number = std::remove_const_t<T>;
  return at::from_blob(const_cast<number*>(m.data), {m.rows, m.cols},
                       at::TensorOptions().dtype(torch_type<number>).device(device));
}

/// Rows of `t` [..., width] on `device`, to be read. Lies in `keep`, which is a copy where strides are none that a view can say.
template <class S>
matrix_view<const S> rows_of(std::string_view name, const at::Tensor& t, index_t width, at::Device device,
                             at::Tensor& keep) {
  check_tensor(name, t, torch_type<S>, device);
  require(
      t.dim() >= 1 && t.size(-1) == width, in_torch,
      [&] { return std::string(name) + " has shape " + c10::str(t.sizes()); },
      "give [..., " + std::to_string(width) + "], one row per token");
  keep = t.detach().reshape({t.numel() / width, width});
  if (width > 1 && keep.stride(1) != 1) keep = keep.contiguous();
  return {numbers_of<const S>(keep), keep.size(0), width, static_cast<index_t>(keep.stride(0))};
}

/// All of a dense tensor as rows, to be written.
template <class S>
matrix_view<S> all_rows(const at::Tensor& dense, index_t width) {
  return {numbers_of<S>(dense), static_cast<index_t>(dense.numel()) / width, width};
}

/// A workspace over a tensor of bytes.
inline at::Tensor torch_bytes(std::size_t bytes, at::Device device) {
  return empty_tensor({static_cast<int64_t>(bytes)}, at::kByte, device);
}
inline workspace scratch_in(const at::Tensor& bytes) {
  return workspace(std::span<std::byte>(numbers_of<std::byte>(bytes), static_cast<std::size_t>(bytes.numel())));
}

/// The memory of tensors as weights: what lies there when they are used, not a copy.
template <Storage S>
parameters<S> external_weights(const std::shared_ptr<const parameter_layout>& layout, at::TensorList tensors,
                               at::Device device) {
  require(
      static_cast<index_t>(tensors.size()) == layout->tensors(), in_torch,
      [&] {
        return std::to_string(tensors.size()) + " weights were given for " + std::to_string(layout->tensors()) +
               " tensors";
      },
      "give all of them, in the order of the layout");
  std::vector<S*> pointers;
  for (index_t i = 0; i < layout->tensors(); ++i) {
    const auto& info = (*layout)[i];
    const at::Tensor& t = tensors[static_cast<std::size_t>(i)];
    check_tensor("'" + info.name + "'", t, torch_type<S>, device);
    require(
        t.is_contiguous() && t.dim() == 2 && t.size(0) == info.rows && t.size(1) == info.cols, in_torch,
        [&] {
          return "'" + info.name + "' has shape " + c10::str(t.sizes()) + " and strides " + c10::str(t.strides());
        },
        "give a contiguous " + shape_text(info.rows, info.cols));
    pointers.push_back(numbers_of<S>(t));
  }
  return parameters<S>(layout, pointers);
}

/// Gradients in tensors: one for every weight that requires one, undefined for the others. Their marks are a tensor too.
template <class C>
struct torch_sums {
  std::vector<at::Tensor> tensors;
  at::Tensor marks;
  gradients<C> into;

  torch_sums(const std::shared_ptr<const parameter_layout>& layout, at::TensorList weights, at::Device device)
      : tensors(take(*layout, weights, device)),
        marks(at::zeros({layout->tensors()}, at::TensorOptions().dtype(at::kByte).device(device))),
        into(layout, pointers(tensors), numbers_of<std::uint8_t>(marks)) {}

  /// What a backward hands over: undefined where nobody wrote, so that `.grad` stays as it is and optimisers skip it.
  /// Waits for a device.
  std::vector<at::Tensor> results() const {
    const at::Tensor written = marks.cpu();
    auto all = tensors;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (numbers_of<const std::uint8_t>(written)[i] == 0) all[i] = at::Tensor();
    return all;
  }

 private:
  static std::vector<at::Tensor> take(const parameter_layout& layout, at::TensorList weights, at::Device device) {
    std::vector<at::Tensor> result;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const bool wanted = weights[i].requires_grad() && layout[static_cast<index_t>(i)].trained;
      result.push_back(wanted ? empty_tensor(weights[i].sizes(), torch_type<C>, device) : at::Tensor());
    }
    return result;
  }
  static std::vector<C*> pointers(const std::vector<at::Tensor>& tensors) {
    std::vector<C*> result;
    for (const auto& t : tensors) result.push_back(t.defined() ? numbers_of<C>(t) : nullptr);
    return result;
  }
};

/// Throws where a graph of the way back was asked for.
inline void refuse_create_graph() {
  require(
      !at::GradMode::is_enabled(), in_torch,
      [] { return std::string("gradients of gradients (create_graph) were asked for"); },
      "leave create_graph out: a mixture has first derivatives alone");
}

}  // namespace detail
}  // namespace moue::inline v0_1
