// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Device memory that frees itself: arrays, and the weights, gradients and workspace of a pass. Made by the members of a
/// backend; each is one allocation.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend/cuda/runtime.cuh"
#include "moue/error.hpp"
#include "moue/parameter.hpp"
#include "moue/view.hpp"
#include "moue/workspace.hpp"

namespace moue {

/// Bytes on a device. Movable; null after a move.
template <class RuntimeT>
class device_memory {
 public:
  device_memory(const RuntimeT& runtime, std::size_t bytes)
      : runtime_(runtime), data_(runtime.allocate(bytes)), bytes_(bytes) {}
  device_memory(device_memory&& other) noexcept
      : runtime_(other.runtime_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  device_memory& operator=(device_memory&& other) noexcept {
    std::swap(runtime_, other.runtime_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~device_memory() {
    if (data_ != nullptr) runtime_.release(data_);
  }

  const RuntimeT& runtime() const { return runtime_; }
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t bytes() const { return bytes_; }
  /// Queued with all other work.
  void zero() const {
    if (bytes_ > 0) runtime_.zero(data_, bytes_);
  }

 private:
  RuntimeT runtime_;
  void* data_;
  std::size_t bytes_;
};

/// `size` elements on a device, uninitialised.
template <class T, class RuntimeT>
class device_array {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  device_array(const RuntimeT& runtime, index_t size)
      : memory_(runtime, static_cast<std::size_t>(size) * sizeof(T)), size_(size) {}

  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  index_t size() const { return size_; }
  vector_view<T> view() const { return {data(), size_}; }
  /// The elements as rows of `cols`.
  matrix_view<T> view(index_t rows, index_t cols) const {
    detail::require(
        rows * cols <= size_, "device_array",
        [&] { return std::to_string(size_) + " elements were viewed as " + detail::shape_text(rows, cols); },
        "view no more than there are");
    return {data(), rows, cols};
  }
  void zero() const { memory_.zero(); }
  /// In order with all other work, for which it waits; `from` may be reused at once.
  void upload(std::span<const T> from) const {
    check_size(from.size());
    if (!from.empty()) memory_.runtime().upload(from.data(), data(), from.size_bytes());
  }
  /// Waits for all work queued before.
  void download(std::span<T> to) const {
    check_size(to.size());
    if (!to.empty()) memory_.runtime().download(data(), to.data(), to.size_bytes());
  }
  std::vector<T> download() const {
    std::vector<T> result(static_cast<std::size_t>(size_));
    download(result);
    return result;
  }

 private:
  void check_size(std::size_t given) const {
    detail::require(
        static_cast<index_t>(given) <= size_, "device_array",
        [&] { return std::to_string(given) + " elements were copied to or from " + std::to_string(size_); },
        "copy no more than there are");
  }

  device_memory<RuntimeT> memory_;
  index_t size_;
};

namespace detail::gpu {

/// Where the tensors of a layout lie in one allocation: each at a multiple of 256 bytes, as if it had been allocated on
/// its own, and `tail` bytes after the last.
struct tensor_places {
  std::vector<std::size_t> starts;
  std::size_t tail_start = 0;
  std::size_t bytes = 0;

  tensor_places(const parameter_layout& layout, std::size_t element_bytes, std::size_t tail) {
    constexpr std::size_t alignment = 256;
    for (const auto& info : layout) {
      starts.push_back(bytes);
      bytes += (static_cast<std::size_t>(info.size()) * element_bytes + alignment - 1) / alignment * alignment;
    }
    tail_start = bytes;
    bytes += tail;
  }
  template <class T>
  std::vector<T*> pointers(std::byte* start) const {
    std::vector<T*> result;
    for (const std::size_t at : starts) result.push_back(reinterpret_cast<T*>(start + at));
    return result;
  }
};

inline void require_same_shapes(const parameter_layout& a, const parameter_layout& b) {
  require(
      a.same_shapes(b), "device memory", [] { return std::string("tensors of two layouts were copied"); },
      "copy between objects of one mixture's layout()");
}

template <class RuntimeT, class S>
void upload_tensors(const RuntimeT& runtime, const auto& from, parameters<S>& to) {
  require_same_shapes(from.layout(), to.layout());
  for (index_t i = 0; i < to.layout().tensors(); ++i)
    if (const auto size = static_cast<std::size_t>(to.layout()[i].size()); size > 0)
      runtime.upload(from[i].data, to[i].data, size * sizeof(S));
}
template <class RuntimeT>
void download_tensors(const RuntimeT& runtime, const auto& from, auto& to) {
  require_same_shapes(from.layout(), to.layout());
  for (index_t i = 0; i < to.layout().tensors(); ++i)
    if (const auto size = static_cast<std::size_t>(to.layout()[i].size()); size > 0)
      runtime.download(from[i].data, to[i].data, size * sizeof(*to[i].data));
}

}  // namespace detail::gpu

/// Weights on a device, for wherever `parameters` are asked for; copies of that part of it are views.
template <Storage S, class RuntimeT>
class device_parameters : private device_memory<RuntimeT>, public parameters<S> {
  using memory = device_memory<RuntimeT>;
  using places = detail::gpu::tensor_places;

 public:
  /// All zero.
  device_parameters(const RuntimeT& runtime, std::shared_ptr<const parameter_layout> layout)
      : device_parameters(runtime, layout, places(*layout, sizeof(S), 0)) {
    memory::zero();
  }
  device_parameters(const RuntimeT& runtime, const parameters<S>& host)
      : device_parameters(runtime, host.shared_layout(),
                          places(*detail::layout_of(host, "device memory"), sizeof(S), 0)) {
    copy_from(host);
  }

  void copy_from(const parameters<S>& host) {
    detail::layout_of(host, "device memory");
    detail::gpu::upload_tensors<RuntimeT, S>(memory::runtime(), host, *this);
  }
  /// Waits for all work queued before.
  void copy_to(parameters<S>& host) const {
    detail::layout_of(host, "device memory");
    detail::gpu::download_tensors(memory::runtime(), *this, host);
  }

 private:
  device_parameters(const RuntimeT& runtime, std::shared_ptr<const parameter_layout> layout, const places& at)
      : memory(runtime, at.bytes), parameters<S>(std::move(layout), at.pointers<S>(memory::data())) {}
};

/// Gradients and marks on a device, for wherever `gradients` are asked for; all zero at first.
template <class C, class RuntimeT>
class device_gradients : private device_memory<RuntimeT>, public gradients<C> {
  using memory = device_memory<RuntimeT>;
  using places = detail::gpu::tensor_places;

 public:
  device_gradients(const RuntimeT& runtime, std::shared_ptr<const parameter_layout> layout)
      : device_gradients(runtime, layout, places(*layout, sizeof(C), marks_of(*layout))) {
    zero();
  }

  /// Back to zero, queued with all other work.
  void zero() { memory::zero(); }
  /// Waits for all work queued before.
  void copy_to(gradients<C>& host) {
    detail::gpu::download_tensors(memory::runtime(), std::as_const(*this), host);
    if (const auto marks = gradients<C>::marks(); marks.size > 0)
      memory::runtime().download(marks.data, host.marks().data, static_cast<std::size_t>(marks.size));
  }

 private:
  static std::size_t marks_of(const parameter_layout& layout) {
    return static_cast<std::size_t>(layout.experts() > 0 ? layout.experts() : 1);
  }
  device_gradients(const RuntimeT& runtime, std::shared_ptr<const parameter_layout> layout, const places& at)
      : memory(runtime, at.bytes),
        gradients<C>(std::move(layout), at.pointers<C>(memory::data()),
                     reinterpret_cast<std::uint8_t*>(memory::data() + at.tail_start)) {}
};

/// Scratch on a device, for wherever a `workspace` is asked for.
template <class RuntimeT>
class device_workspace : private device_memory<RuntimeT>, public workspace {
 public:
  device_workspace(const RuntimeT& runtime, std::size_t size)
      : device_memory<RuntimeT>(runtime, size),
        workspace(std::span<std::byte>(device_memory<RuntimeT>::data(), size)) {}
  using workspace::bytes;
};

}  // namespace moue
