// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Arrays of NumPy, PyTorch and whatever else speaks DLPack or the buffer protocol, as views.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <moue/error.hpp>
#include <moue/view.hpp>
#include <string>
#include <utility>
#include <vector>

namespace nb = nanobind;

using read_array = nb::ndarray<nb::ro>;  // of any type: what does not fit is refused below, in a sentence
using written_array = nb::ndarray<>;

inline std::string type_name(nb::dlpack::dtype type) {
  constexpr const char* names[] = {"int", "uint", "float", "object", "bfloat", "complex", "bool"};
  return (type.code < std::size(names) ? names[type.code] : "type ") + std::to_string(type.bits);
}

/// Throws unless `array` has `ndim` dimensions of `T` on the host, with the last one dense.
template <class T, class Array>
void require_array(const Array& array, std::size_t ndim, const std::string& name) {
  const auto refuse = [&](const std::string& what, const char* fix) {
    throw moue::error("python", name + " " + what, fix);
  };
  if (array.device_type() != nb::device::cpu::value) refuse("lies on a device", "give an array in the host's memory");
  const auto wanted = nb::dtype<T>();
  const bool mask = sizeof(T) == 1 && array.dtype().code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bool);
  if (array.dtype() != wanted && !mask)
    refuse("is " + type_name(array.dtype()) + ", not " + type_name(wanted),
           "convert it; nothing is converted on the way");
  if (array.ndim() != ndim)
    refuse("has " + std::to_string(array.ndim()) + " dimensions, not " + std::to_string(ndim), "reshape it");
  if (array.shape(ndim - 1) > 1 && array.stride(ndim - 1) != 1)
    refuse("has elements that lie " + std::to_string(array.stride(ndim - 1)) + " apart in a row", "make it contiguous");
}

/// Rows [rows, cols], which may be any number of elements apart.
template <class T>
moue::matrix_view<const T> rows_of(const read_array& array, const char* name) {
  require_array<T>(array, 2, name);
  return {static_cast<const T*>(array.data()), moue::index_t(array.shape(0)), moue::index_t(array.shape(1)),
          moue::index_t(array.stride(0))};
}
template <class T>
moue::matrix_view<T> rows_of(const written_array& array, const char* name) {
  require_array<T>(array, 2, name);
  return {static_cast<T*>(array.data()), moue::index_t(array.shape(0)), moue::index_t(array.shape(1)),
          moue::index_t(array.stride(0))};
}

template <class T>
moue::vector_view<const T> list_of(const read_array& array, const char* name) {
  require_array<T>(array, 1, name);
  return {static_cast<const T*>(array.data()), moue::index_t(array.shape(0))};
}

/// A view as an array that keeps `owner` alive.
template <class T>
nb::object shown(moue::vector_view<const T> view, nb::handle owner) {
  return nb::cast(nb::ndarray<nb::numpy, const T, nb::ndim<1>>(view.data, {std::size_t(view.size)}, owner));
}

/// The arrays of a dict or a list, as `Array`; None is left out as an invalid one.
template <class Array>
std::vector<Array> arrays_of(nb::handle given) {
  std::vector<Array> list;
  const nb::object values =
      nb::isinstance<nb::dict>(given) ? nb::object(nb::borrow<nb::dict>(given).values()) : nb::borrow(given);
  for (nb::handle item : values) list.push_back(item.is_none() ? Array() : nb::cast<Array>(item, false));
  return list;
}
