// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The products of `product_trial` on a device: what a trial holds on the host is carried there and back, at addresses
// that are aligned as they are on the host.

#include <memory>
#include <type_traits>
#include <vector>

#include "moue/backend/cuda/memory.cuh"
#include "product_trial.hpp"

namespace test {

template <class RuntimeT>
struct chosen_runtime : RuntimeT {
  moue::product_choice chosen;
  moue::product_choice choice() const { return chosen; }
};

/// Copies of ranges of the host's memory on a device.
template <class RuntimeT>
class device_copies {
 public:
  explicit device_copies(const RuntimeT& runtime) : runtime_(runtime) {}

  template <class T>
  T* copy(T* from, moue::index_t count) {
    if (from == nullptr || count <= 0) return from == nullptr ? nullptr : from;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    const std::size_t shift = reinterpret_cast<std::uintptr_t>(from) % 16;
    saved_.push_back(std::make_unique<moue::device_memory<RuntimeT>>(runtime_, bytes + shift));
    auto* const there = saved_.back()->data() + shift;
    runtime_.upload(from, there, bytes);
    return reinterpret_cast<T*>(there);
  }
  template <class T>
  moue::matrix_view<T> copy(const moue::matrix_view<T>& m) {
    return {copy(m.data, numbers(m)), m.rows, m.cols, m.stride};
  }
  template <class T>
  void fetch(const moue::matrix_view<T>& there, const moue::matrix_view<T>& to) const {
    if (numbers(to) > 0) runtime_.download(there.data, to.data, static_cast<std::size_t>(numbers(to)) * sizeof(T));
  }
  gpu::segments copy(const gpu::segments& s) {
    auto there = s;
    if (s.offsets != nullptr) there.offsets = copy(s.offsets, s.groups + 1);
    if (s.kinds != nullptr) there.kinds = copy(s.kinds, s.groups);
    return there;
  }
  /// `matrices` receives one view on the device for each group.
  template <class T>
  gpu::weight_table<T> copy(const gpu::weight_table<T>& w, moue::index_t groups,
                            std::vector<moue::matrix_view<T>>& matrices) {
    auto there = w;
    if (w.of_group == nullptr) {
      matrices.push_back(copy(moue::matrix_view<T>{w.dense, w.rows, w.cols, w.stride}));
      there.dense = matrices[0].data;
      return there;
    }
    std::vector<void*> pointers;
    for (moue::index_t g = 0; g < groups; ++g) {
      matrices.push_back(copy(moue::matrix_view<T>{static_cast<T*>(w.of_group[g]), w.rows, w.cols}));
      pointers.push_back(const_cast<std::remove_const_t<T>*>(matrices.back().data));
    }
    there.of_group = copy(pointers.data(), groups);
    return there;
  }

 private:
  template <class T>
  static moue::index_t numbers(const moue::matrix_view<T>& m) {
    return m.data == nullptr || m.rows == 0 ? 0 : (m.rows - 1) * m.stride + m.cols;
  }

  RuntimeT runtime_;
  std::vector<std::unique_ptr<moue::device_memory<RuntimeT>>> saved_;
};

/// Choices that lead to every way.
inline std::vector<moue::product_choice> product_choices() {
  const moue::index_t all = 1 << 20;
  return {{.few_rows = all},
          {.few_rows = all, .multiprocessors = 1},
          {.few_rows = 0, .low_tiles = all, .dense_blas = false},
          {.few_rows = 0, .low_tiles = 0, .multiprocessors = 1, .dense_blas = false},
          {.few_rows = 0}};
}

/// All products of a shape. R: what 16-bit ways round activations to, which they do where weights are in groups; void:
/// none does.
template <class S, class R, class RuntimeT>
void check_on_device(const RuntimeT& device, const product_shape& shape, const moue::product_choice& choice) {
  using C = moue::compute_t<S>;
  const chosen_runtime<RuntimeT> runtime{device, choice};
  const product_trial<S> trial(shape);
  const auto rows = [&](auto transposed) {
    return [&](const gpu::segments& groups, moue::matrix_view<const C> x, const gpu::weight_table<const S>& w,
               moue::matrix_view<C> y, moue::store mode) {
      device_copies there(device);
      std::vector<moue::matrix_view<const S>> matrices;
      const auto out = there.copy(y);
      const auto table = there.copy(w, groups.groups, matrices);
      gpu::products::rows(
          runtime, gpu::one_product<decltype(transposed)::value>(there.copy(groups), there.copy(x), table, out, mode));
      there.fetch(out, y);
    };
  };
  const auto gradient = [&](auto rounding) {
    return [&](const gpu::segments& groups, moue::matrix_view<const C> dy, moue::matrix_view<const C> x,
               const gpu::weight_table<C>& dw) {
      device_copies there(device);
      std::vector<moue::matrix_view<C>> matrices;
      const auto table = there.copy(dw, groups.groups, matrices);
      gpu::products::gradient<typename decltype(rounding)::type>(
          runtime, gpu::one_gradient(there.copy(groups), there.copy(dy), there.copy(x), table));
      for (std::size_t g = 0; g < matrices.size(); ++g) {
        C* const to = dw.of_group == nullptr ? dw.dense : static_cast<C*>(dw.of_group[g]);
        there.fetch(matrices[g], {to, dw.rows, dw.cols, dw.stride});
      }
    };
  };
  const auto check_rows = [&](auto rounding) {
    using to = typename decltype(rounding)::type;
    trial.template check_both_modes<true, to>(rows(std::true_type()));
    trial.template check_rows<false, to>(rows(std::false_type()), moue::store::assign);
    const auto first = trial.template check_rows<false, to>(rows(std::false_type()), moue::store::add);
    const auto second = trial.template check_rows<false, to>(rows(std::false_type()), moue::store::add);
    CHECK(first.same_bits(second));
  };
  const bool few = gpu::rows_of_group(trial.segments()) <= choice.few_rows;
  if (choice.tensor_cores && !shape.dense && !few)
    check_rows(std::type_identity<R>());
  else
    check_rows(std::type_identity<void>());
  if (choice.tensor_cores)
    trial.template check_gradient<R>(gradient(std::type_identity<R>()));
  else
    trial.template check_gradient<void>(gradient(std::type_identity<R>()));
}

}  // namespace test
