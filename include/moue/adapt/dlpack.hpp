// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// DLPack, both ways and without a copy: tensors of other libraries as views, views as tensors of other libraries. Takes
/// the DLPack header that was included before, or else <dlpack/dlpack.h>; versioned tensors need that of DLPack 1.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "moue/error.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"

#if !defined(DLPACK_DLPACK_H_)
#if !__has_include(<dlpack/dlpack.h>)
#error "moue: DLPack's header is not on the include path; add it (Debian: libdlpack-dev), or include your copy before"
#endif
#include <dlpack/dlpack.h>
#endif

namespace moue::inline v0_1 {
namespace detail {

inline constexpr std::string_view dlpack_where = "dlpack";
inline constexpr std::uint8_t dlpack_bool = 6;  // headers older than 1 have no name for it

inline std::string dlpack_name(const DLDataType& type) {
  constexpr const char* names[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
  std::string text = type.code < std::size(names) ? names[type.code] : "code " + std::to_string(type.code) + " of ";
  text.append(std::to_string(type.bits));
  if (type.lanes != 1) text.append(" in lanes of ").append(std::to_string(type.lanes));
  return text;
}

/// The element type T as DLPack names it.
template <class T>
constexpr DLDataType dlpack_type() {
  using U = std::remove_const_t<T>;
  constexpr auto bits = static_cast<std::uint8_t>(8 * sizeof(U));
  if constexpr (std::is_same_v<U, bf16>)
    return {kDLBfloat, bits, 1};
  else if constexpr (std::is_same_v<U, half> || std::is_floating_point_v<U>)
    return {kDLFloat, bits, 1};
  else {
    static_assert(std::is_integral_v<U>, "moue: DLPack has no name for this element type");
    return {std::is_signed_v<U> ? kDLInt : kDLUInt, bits, 1};
  }
}

/// What every view of a tensor asks of it. Returns its first element.
template <class T>
T* dlpack_data(const DLTensor& tensor, DLDeviceType device) {
  const auto on_host = [](DLDeviceType d) { return d == kDLCPU || d == kDLCUDAHost || d == kDLROCMHost; };
  require(
      tensor.device.device_type == device || (on_host(device) && on_host(tensor.device.device_type)), dlpack_where,
      [&] {
        return "the tensor lies on a device of type " + std::to_string(tensor.device.device_type) + ", not " +
               std::to_string(device);
      },
      "move it to where the backend's memory is; the host is 1");
  constexpr DLDataType wanted = dlpack_type<T>();
  const DLDataType& type = tensor.dtype;
  const bool mask = sizeof(T) == 1 && wanted.code == kDLUInt && type.code == dlpack_bool;
  require((type.code == wanted.code || mask) && type.bits == wanted.bits && type.lanes == 1, dlpack_where,
          [&] { return "the elements are " + dlpack_name(type) + ", not " + dlpack_name(wanted); },
          "convert the tensor; nothing is converted on the way");
  require(
      tensor.ndim >= 0 && (tensor.ndim == 0 || tensor.shape != nullptr), dlpack_where,
      [] { return std::string("the tensor has no shape"); }, "give one that does");
  index_t elements = 1;
  for (std::int32_t d = 0; d < tensor.ndim; ++d) {
    const std::int64_t size = tensor.shape[d];
    require(
        size >= 0 && (size == 0 || elements <= (std::numeric_limits<index_t>::max)() / size), dlpack_where,
        [&] { return "dimension " + std::to_string(d) + " has the size " + std::to_string(size); },
        "give a shape that memory can hold");
    elements *= static_cast<index_t>(size);
  }
  if (elements == 0) return nullptr;
  require(
      tensor.data != nullptr, dlpack_where, [] { return std::string("the tensor has elements but no memory"); },
      "give one that has been computed");
  auto* const first = static_cast<unsigned char*>(tensor.data) + tensor.byte_offset;
  require(
      reinterpret_cast<std::uintptr_t>(first) % alignof(T) == 0, dlpack_where,
      [] { return "the tensor does not begin at a multiple of " + std::to_string(alignof(T)) + " bytes"; },
      "copy it into memory of its own");
  return reinterpret_cast<T*>(first);
}

inline void require_apart(std::int64_t size, std::int64_t stride) {
  require(
      size <= 1 || stride == 1, dlpack_where,
      [&] { return "the elements of a row lie " + std::to_string(stride) + " apart"; },
      "make the tensor contiguous (a transposed one is not)");
}

}  // namespace detail

/// A tensor [.., width] as rows [product of the others, width]: contiguous, or with rows that are evenly apart, such as
/// some columns or every second row of a larger tensor, or one row that is broadcast. `T` says how the elements are read:
/// `float`, `double`, `bf16`, `half`, integers; `std::uint8_t` takes booleans, too. Throws if the tensor cannot be viewed
/// like that, or lies neither on `device` nor, where that is the host, in memory that the host has pinned.
template <class T>
matrix_view<T> rows_of(const DLTensor& tensor, DLDeviceType device = kDLCPU) {
  T* const data = detail::dlpack_data<T>(tensor, device);
  detail::require(
      tensor.ndim >= 1, detail::dlpack_where, [] { return std::string("a single number has no rows"); },
      "give [.., width]");
  const std::int32_t last = tensor.ndim - 1;
  const auto width = static_cast<index_t>(tensor.shape[last]);
  if (data == nullptr) {  // empty: [0, width], or rows without an element
    index_t rows = 1;
    for (std::int32_t d = 0; d < last; ++d) rows *= static_cast<index_t>(tensor.shape[d]);
    return {nullptr, rows, width};
  }
  index_t rows = 1, apart = width;
  if (tensor.strides != nullptr) detail::require_apart(width, tensor.strides[last]);
  for (std::int32_t d = last; d-- > 0;) {
    const std::int64_t size = tensor.shape[d];
    if (size == 1) continue;
    if (tensor.strides != nullptr) {
      const auto stride = static_cast<index_t>(tensor.strides[d]);
      if (rows == 1) apart = stride;
      const auto even = static_cast<index_t>(static_cast<std::size_t>(apart) * static_cast<std::size_t>(rows));
      detail::require(
          stride == even, detail::dlpack_where,
          [&] {
            return "the rows are not evenly apart: dimension " + std::to_string(d) + " has a stride of " +
                   std::to_string(stride) + ", not " + std::to_string(even);
          },
          "make the tensor contiguous");
    }
    rows *= static_cast<index_t>(size);
  }
  return {data, rows, width, apart};
}

/// A contiguous tensor of one dimension as a list.
template <class T>
vector_view<T> list_of(const DLTensor& tensor, DLDeviceType device = kDLCPU) {
  T* const data = detail::dlpack_data<T>(tensor, device);
  detail::require(
      tensor.ndim == 1, detail::dlpack_where, [&] { return std::to_string(tensor.ndim) + " dimensions are no list"; },
      "give one");
  const std::int64_t size = tensor.shape[0];
  if (tensor.strides != nullptr) detail::require_apart(size, tensor.strides[0]);
  return {data, static_cast<index_t>(size)};
}

/// A tensor that another library handed over. Gives it back when it dies; views of it must not outlive it.
class dlpack_tensor {
 public:
  /// Takes `tensor` over, as whoever reads a capsule "dltensor" does (and then renames it "used_dltensor").
  explicit dlpack_tensor(DLManagedTensor* tensor) : owner_(required(tensor)), tensor_(&tensor->dl_tensor) {}
#if defined(DLPACK_MAJOR_VERSION)
  /// Takes `tensor` over: what is in a capsule "dltensor_versioned". Throws if its version is not understood.
  explicit dlpack_tensor(DLManagedTensorVersioned* tensor) : owner_(required(tensor)) {
    detail::require(
        tensor->version.major == DLPACK_MAJOR_VERSION, detail::dlpack_where,
        [&] { return "the tensor is of DLPack " + std::to_string(tensor->version.major); },
        "ask its library for max_version (" + std::to_string(DLPACK_MAJOR_VERSION) + ", 0)");
    tensor_ = &tensor->dl_tensor;
    read_only_ = (tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
  }
#endif

  /// The plain tensor.
  const DLTensor& tensor() const& { return *tensor_; }
  const DLTensor& tensor() const&& = delete;
  /// Whether its library forbids writing.
  bool read_only() const { return read_only_; }

  /// As `rows_of`. A tensor that is read-only is refused unless `T` is const.
  template <class T>
  matrix_view<T> rows(DLDeviceType device = kDLCPU) const& {
    require_right<T>();
    return rows_of<T>(*tensor_, device);
  }
  template <class T>
  matrix_view<T> rows(DLDeviceType device = kDLCPU) const&& = delete;
  /// As `list_of`, with the same rule.
  template <class T>
  vector_view<T> list(DLDeviceType device = kDLCPU) const& {
    require_right<T>();
    return list_of<T>(*tensor_, device);
  }
  template <class T>
  vector_view<T> list(DLDeviceType device = kDLCPU) const&& = delete;

 private:
  template <class Managed>
  static std::shared_ptr<const void> required(Managed* tensor) {
    detail::require(
        tensor != nullptr, detail::dlpack_where, [] { return std::string("there is no tensor"); },
        "a capsule can be read once; ask for another");
    return {tensor, [](Managed* done) {
              if (done->deleter != nullptr) done->deleter(done);
            }};
  }
  template <class T>
  void require_right() const {
    detail::require(
        std::is_const_v<T> || !read_only_, detail::dlpack_where, [] { return std::string("the tensor is read-only"); },
        "view it as const, or copy it");
  }

  std::shared_ptr<const void> owner_;
  const DLTensor* tensor_ = nullptr;
  bool read_only_ = false;
};

namespace detail {

/// What lives as long as the other library uses our memory.
template <class Managed, std::int32_t Rank>
struct exported_tensor {
  Managed managed = {};
  std::int64_t shape[Rank] = {}, strides[Rank] = {};
  std::shared_ptr<const void> owner = {};

  template <class T>
  static Managed* make(T* data, const std::int64_t (&shape)[Rank], const std::int64_t (&strides)[Rank],
                       std::shared_ptr<const void> owner, DLDevice device) {
    auto exported = std::make_unique<exported_tensor>();
    for (std::int32_t d = 0; d < Rank; ++d) exported->shape[d] = shape[d], exported->strides[d] = strides[d];
    exported->owner = std::move(owner);
    exported->managed.dl_tensor = {const_cast<std::remove_const_t<T>*>(data),
                                   device,
                                   Rank,
                                   dlpack_type<T>(),
                                   exported->shape,
                                   exported->strides,
                                   0};
    exported->managed.manager_ctx = exported.get();
    exported->managed.deleter = [](Managed* done) { delete static_cast<exported_tensor*>(done->manager_ctx); };
    return &exported.release()->managed;
  }
};

template <class Managed, class T>
Managed* export_view(matrix_view<T> m, std::shared_ptr<const void> owner, DLDevice device) {
  return exported_tensor<Managed, 2>::make(m.data, {m.rows, m.cols}, {m.stride, 1}, std::move(owner), device);
}
template <class Managed, class T>
Managed* export_view(vector_view<T> v, std::shared_ptr<const void> owner, DLDevice device) {
  return exported_tensor<Managed, 1>::make(v.data, {v.size}, {1}, std::move(owner), device);
}

}  // namespace detail

/// A view (`matrix_view` or `vector_view`) as a tensor of another library, which frees it by its deleter. `owner` keeps the
/// memory alive until then; null if it lives forever. For a capsule "dltensor".
template <template <class> class View, class T>
DLManagedTensor* to_dlpack(View<T> view, std::shared_ptr<const void> owner, DLDevice device = {kDLCPU, 0}) {
  static_assert(!std::is_const_v<T>,
                "moue: a plain DLPack tensor cannot say that it is read-only; say to_dlpack_versioned");
  return detail::export_view<DLManagedTensor>(view, std::move(owner), device);
}

#if defined(DLPACK_MAJOR_VERSION)
/// The same for a capsule "dltensor_versioned". Views of const elements are marked read-only.
template <template <class> class View, class T>
DLManagedTensorVersioned* to_dlpack_versioned(View<T> view, std::shared_ptr<const void> owner,
                                              DLDevice device = {kDLCPU, 0}) {
  auto* const exported = detail::export_view<DLManagedTensorVersioned>(view, std::move(owner), device);
  exported->version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  exported->flags = std::is_const_v<T> ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
  return exported;
}
#endif

}  // namespace moue::inline v0_1
