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
#include "moue/gradients.hpp"
#include "moue/parameter.hpp"
#include "moue/view.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1 {

/// Bytes on a device. Movable; null after a move.
template <class RuntimeT>
class device_memory {
 public:
  /// `bytes` of the runtime's memory, uninitialised.
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

  /// The runtime that it came from.
  const RuntimeT& runtime() const { return runtime_; }
  /// The first byte, on the device.
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  /// How many there are.
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
  /// `size` elements, uninitialised.
  device_array(const RuntimeT& runtime, index_t size)
      : memory_(runtime,
                static_cast<std::size_t>(detail::checked_product(size, static_cast<index_t>(sizeof(T)), "array"))),
        size_(size) {}

  /// The first element, on the device.
  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  /// Elements.
  index_t size() const { return size_; }
  /// All of them, for code that runs on the device.
  vector_view<T> view() const { return {data(), size_}; }
  /// The elements as rows of `cols`.
  matrix_view<T> view(index_t rows, index_t cols) const {
    detail::require(
        detail::checked_product(rows, cols, "view") <= size_, "device_array",
        [&] { return std::to_string(size_) + " elements were viewed as " + detail::shape_text(rows, cols); },
        "view no more than there are");
    return {data(), rows, cols};
  }
  /// Zeros everywhere; queued with all other work.
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
  /// All elements, in memory of the host. Waits for all work queued before.
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
/// its own, and `tail` bytes after the last. Those that are not wanted have no place.
struct tensor_places {
  static constexpr std::size_t nowhere = static_cast<std::size_t>(-1);

  std::vector<std::size_t> starts;
  std::size_t tail_start = 0;
  std::size_t bytes = 0;

  template <class Wanted>
  tensor_places(const parameter_layout& layout, std::size_t element_bytes, std::size_t tail, const Wanted& wanted) {
    constexpr std::size_t alignment = 256;
    for (const auto& info : layout) {
      starts.push_back(wanted(info) ? bytes : nowhere);
      if (starts.back() == nowhere) continue;
      bytes += (static_cast<std::size_t>(info.size()) * element_bytes + alignment - 1) / alignment * alignment;
    }
    tail_start = bytes;
    bytes += tail;
  }
  template <class T>
  std::vector<T*> pointers(std::byte* start) const {
    std::vector<T*> result;
    for (const std::size_t at : starts) result.push_back(at == nowhere ? nullptr : reinterpret_cast<T*>(start + at));
    return result;
  }
};

struct every_tensor {
  bool operator()(const tensor_info&) const { return true; }
};

template <class C>
struct clear_unmarked_element {
  C* data;
  const std::uint8_t* mark;
  MOUE_HD void operator()(index_t i) const {
    if (*mark == 0) data[i] = C(0);
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

/// Weights on a device, for wherever `parameters` are asked for.
template <Storage S, class RuntimeT>
class device_parameters : private device_memory<RuntimeT>, public parameters<S> {
  using memory = device_memory<RuntimeT>;
  using places = detail::gpu::tensor_places;

 public:
  /// All zero.
  device_parameters(const RuntimeT& runtime, std::shared_ptr<const parameter_layout> layout)
      : device_parameters(runtime, layout,
                          places(*detail::require_layout(layout, "device memory", "the weights"), sizeof(S), 0,
                                 detail::gpu::every_tensor{})) {
    memory::zero();
  }
  /// A copy of the host's weights.
  device_parameters(const RuntimeT& runtime, const parameters<S>& host)
      : device_parameters(
            runtime, host.shared_layout(),
            places(*detail::layout_of(host, "device memory"), sizeof(S), 0, detail::gpu::every_tensor{})) {
    copy_from(host);
  }

  /// Takes over the numbers of weights on the host, whose shapes are the same. In order with all other work, for which it waits.
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

/// Gradients and marks on a device, for wherever `gradients` are asked for: zeros at first, and nothing is live.
template <class C, class RuntimeT>
class device_gradients : private device_memory<RuntimeT>, public gradients<C> {
  using memory = device_memory<RuntimeT>;
  using places = detail::gpu::tensor_places;

 public:
  /// `wanted` is asked once for every trained tensor; the others, and those it does not want, have no memory.
  template <class Wanted = every_trained>
  device_gradients(const RuntimeT& runtime, std::shared_ptr<const parameter_layout> layout, const Wanted& wanted = {})
      : device_gradients(
            runtime, layout,
            places(*detail::require_layout(layout, "device memory", "the gradients"), sizeof(C), marks_of(*layout),
                   [&](const tensor_info& info) { return info.trained && wanted(info); })) {
    zero();
  }

  // As on the host, queued with all other work.

  void reset() {
    const auto marks = gradients<C>::marks();
    if (marks.size > 0) memory::runtime().zero(marks.data, static_cast<std::size_t>(marks.size));
  }
  void zero() { memory::zero(); }
  /// A launch for each tensor; `gradient_sweep` needs few.
  void finish() {
    for (index_t i = 0; i < gradients<C>::layout().tensors(); ++i)
      if (gradients<C>::wanted(i))
        detail::gpu::for_each(memory::runtime(), gradients<C>::layout()[i].size(),
                              detail::gpu::clear_unmarked_element<C>{(*this)[i].data, gradients<C>::marks().data + i});
  }
  /// What is live is copied, all else that `host` wants is zero. Waits for all work queued before.
  void copy_to(gradients<C>& host) {
    detail::gpu::require_same_shapes(gradients<C>::layout(), host.layout());
    std::vector<std::uint8_t> marks(static_cast<std::size_t>(gradients<C>::layout().tensors()));
    if (!marks.empty()) memory::runtime().download(gradients<C>::marks().data, marks.data(), marks.size());
    host.zero();
    for (index_t i = 0; i < host.layout().tensors(); ++i)
      if (marks[static_cast<std::size_t>(i)] != 0 && gradients<C>::wanted(i) && host.wanted(i)) {
        memory::runtime().download(std::as_const(*this)[i].data, host[i].data,
                                   static_cast<std::size_t>(host.layout()[i].size()) * sizeof(C));
        host.set_live(i);
      }
  }

 private:
  static std::size_t marks_of(const parameter_layout& layout) {
    return static_cast<std::size_t>(layout.tensors() > 0 ? layout.tensors() : 1);
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
  /// `size` bytes, uninitialised.
  device_workspace(const RuntimeT& runtime, std::size_t size)
      : device_memory<RuntimeT>(runtime, size),
        workspace(std::span<std::byte>(device_memory<RuntimeT>::data(), size)) {}
  using workspace::bytes;
};

}  // namespace moue::inline v0_1
