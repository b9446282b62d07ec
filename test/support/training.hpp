// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "moue/gradients.hpp"

/// What the tests of optimisers share.
namespace training {

enum : moue::index_t { router, bias, buffer, up_0, scale_0, up_1, scale_1, tensors };

/// A router and two experts, with every kind of tensor an optimiser treats differently.
inline std::shared_ptr<const moue::parameter_layout> make_layout() {
  auto layout = std::make_shared<moue::parameter_layout>();
  layout->add("router.weight", {.name = "", .rows = 4, .cols = 6, .decayed = true}, 0, -1);
  layout->add("router.bias", {.name = "", .cols = 4}, 0, -1);
  layout->add("router.buffer", {.name = "", .cols = 4, .trained = false, .decayed = true}, 0, -1);
  for (moue::index_t e = 0; e < 2; ++e) {
    layout->begin_expert();
    layout->add("experts." + std::to_string(e) + ".up", {.name = "", .rows = 6, .cols = 5, .decayed = true}, -1, e);
    layout->add("experts." + std::to_string(e) + ".scale", {.name = "", .cols = 6}, -1, e);
  }
  return layout;
}

template <class T>
void fill(T& tensors_of, std::uint64_t key, double factor = 1) {
  using C = moue::compute_t<typename decltype(tensors_of[moue::index_t{}])::value_type>;
  for (moue::index_t i = 0; i < tensors_of.layout().tensors(); ++i)
    for (moue::index_t j = 0; j < tensors_of[i].rows * tensors_of[i].cols; ++j)
      tensors_of[i].data[j] = static_cast<C>(
          factor * moue::detail::normal_at(key, static_cast<std::uint64_t>(tensors_of.layout()[i].offset + j)));
}

/// Says that all tensors but those of experts hold numbers, as after a batch that reached no expert.
template <class C>
void touch_routers(moue::gradients<C>& grads) {
  for (moue::index_t i = 0; i < grads.layout().tensors(); ++i)
    if (grads.layout()[i].expert < 0) grads.set_live(i);
}
template <class C>
void touch(moue::gradients<C>& grads, moue::index_t expert) {
  for (moue::index_t i = 0; i < grads.layout().tensors(); ++i)
    if (grads.layout()[i].expert == expert) grads.set_live(i);
}
template <class C>
void touch_all(moue::gradients<C>& grads) {
  for (moue::index_t i = 0; i < grads.layout().tensors(); ++i) grads.set_live(i);
}

template <class S>
struct problem {
  moue::parameters<S> weights;
  moue::gradients<moue::compute_t<S>> grads;

  problem() : weights(make_layout()), grads(weights.shared_layout()) {
    fill(weights, 1);
    fill(grads, 2);
    touch_all(grads);
  }
};

template <class T>
bool same_bits(const T& a, const T& b, moue::index_t tensor) {
  const auto bytes = static_cast<std::size_t>(a[tensor].rows * a[tensor].cols) * sizeof(*a[tensor].data);
  return bytes == 0 || std::memcmp(a[tensor].data, b[tensor].data, bytes) == 0;
}

template <class T>
bool same_bits(const T& a, const T& b) {
  for (moue::index_t i = 0; i < a.layout().tensors(); ++i)
    if (!same_bits(a, b, i)) return false;
  return true;
}

}  // namespace training
