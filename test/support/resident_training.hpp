// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "carried.hpp"
#include "moue/train/adamw.hpp"
#include "training.hpp"

/// What the tests of optimisers in a backend's memory share.
namespace training {

/// A router, three experts, a tensor without elements, and sizes below, at and above what a run of elements holds.
inline std::shared_ptr<const moue::parameter_layout> make_uneven_layout() {
  auto layout = std::make_shared<moue::parameter_layout>();
  layout->add("router.weight", {.name = "", .rows = 64, .cols = 32, .decayed = true}, 0, -1);
  layout->add("router.nothing", {.name = "", .rows = 0, .cols = 5}, 0, -1);
  layout->add("router.buffer", {.name = "", .cols = 4, .trained = false, .decayed = true}, 0, -1);
  for (moue::index_t e = 0; e < 3; ++e) {
    layout->begin_expert();
    layout->add("experts." + std::to_string(e) + ".up", {.name = "", .rows = 70, .cols = 65, .decayed = true}, -1, e);
    layout->add("experts." + std::to_string(e) + ".scale", {.name = "", .cols = 7}, -1, e);
  }
  return layout;
}

/// Weights and gradients in the memory of a backend, and their way to and fro.
template <class Backend, class S>
struct resident {
  using C = moue::compute_t<S>;

  Backend backend;
  test::carrier<Backend> carrier;
  std::shared_ptr<const moue::parameter_layout> layout;
  moue::parameters<S> weights;
  moue::gradients<C> grads;

  resident(const Backend& b, const moue::parameters<S>& host)
      : backend(b),
        carrier(b),
        layout(host.shared_layout()),
        weights(layout, make<S>()),
        grads(layout, make<C>(), carrier.template make<std::uint8_t>(layout->tensors())) {
    send(host, weights);
    send(moue::gradients<C>(layout));
  }

  /// External memory, full of rubbish.
  moue::workspace memory(std::size_t bytes) {
    const std::vector<std::byte> rubbish(bytes, std::byte{0x5a});
    auto* const start = carrier.template make<std::byte>(std::ssize(rubbish));
    carrier.send(rubbish.data(), start, std::ssize(rubbish));
    return moue::workspace(std::span(start, bytes));
  }
  auto operations() const { return backend.operations(moue::matrix_view<C>{}); }

  void send(const auto& from, auto& to) const {
    for (moue::index_t i = 0; i < layout->tensors(); ++i)
      if (!from[i].empty()) carrier.send(from[i], to[i].data);
  }
  void send(const moue::gradients<C>& host) {
    send(host, grads);
    carrier.send(host.marks().data, grads.marks().data, layout->tensors());
  }
  template <class T>
  moue::parameters<T> fetch(const moue::parameters<T>& from) const {
    moue::parameters<T> result(layout);
    for (moue::index_t i = 0; i < layout->tensors(); ++i)
      carrier.fetch(from[i].data, result[i].data, from[i].rows * from[i].cols);
    return result;
  }
  moue::gradients<C> fetch_gradients() const {
    moue::gradients<C> result(layout);
    for (moue::index_t i = 0; i < layout->tensors(); ++i)
      if (grads.wanted(i)) carrier.fetch(grads[i].data, result[i].data, (*layout)[i].size());
    carrier.fetch(grads.marks().data, result.marks().data, layout->tensors());
    return result;
  }
  std::vector<std::int64_t> steps(moue::adamw<S>& optimiser) const {
    return carrier.fetch(static_cast<const std::int64_t*>(optimiser.steps().data()), layout->tensors());
  }

 private:
  template <class T>
  std::vector<T*> make() {
    std::vector<T*> result;
    for (const auto& info : *layout) result.push_back(carrier.template make<T>(info.size()));
    return result;
  }
};

inline constexpr moue::adamw_options options{.beta1 = 0.85, .beta2 = 0.97, .epsilon = 1e-6, .weight_decay = 0.2};

/// Gradients of a step in which a batch reached the experts of `reached`.
template <class C>
moue::gradients<C> step_gradients(const std::shared_ptr<const moue::parameter_layout>& layout, std::uint64_t key,
                                  const std::vector<moue::index_t>& reached) {
  moue::gradients<C> grads(layout);
  fill(grads, key);
  touch_routers(grads);
  for (const auto e : reached) touch(grads, e);
  for (moue::index_t i = 0; i < layout->tensors(); ++i)  // nobody may read what holds nothing
    if (grads.wanted(i) && !grads.live(i))
      std::fill_n(grads[i].data, (*layout)[i].size(), std::numeric_limits<C>::quiet_NaN());
  return grads;
}

inline const std::vector<std::vector<moue::index_t>> batches{{0}, {1, 2}, {}, {0, 1, 2}, {0, 2}, {0}};

template <class S, class Backend>
void check_same_as_host(const Backend& backend, const moue::adamw_options& o) {
  using C = moue::compute_t<S>;
  moue::parameters<S> weights(make_uneven_layout());
  fill(weights, 1);
  resident<Backend, S> there(backend, weights);
  auto memory = there.memory(moue::adamw<S>::workspace_bytes(*there.layout));
  moue::adamw here(weights, o);
  moue::adamw resident_optimiser(backend, there.weights, there.grads, memory, o);
  const auto rate = there.carrier.template make<double>(1);
  for (std::size_t t = 0; t < batches.size(); ++t) {
    const auto grads = step_gradients<C>(there.layout, 10 + t, batches[t]);
    const double learning_rate = 0.05 / static_cast<double>(1 + t);
    here.step(weights, grads, learning_rate);
    there.send(grads);
    if (t % 2 == 0) {
      resident_optimiser.step(there.operations(), there.weights, there.grads, learning_rate);
    } else {
      there.carrier.send(&learning_rate, rate, 1);
      resident_optimiser.step(there.operations(), there.weights, there.grads, moue::vector_view<const double>{rate, 1});
    }
    CHECK(same_bits(there.fetch(there.weights), weights));
    CHECK(there.steps(resident_optimiser) == std::vector(here.steps().begin(), here.steps().end()));
  }
  std::vector<moue::parameters<C>> mine, theirs;
  here.visit([&](std::string_view, const moue::parameters<C>& set) { mine.push_back(set); });
  resident_optimiser.visit(
      [&](std::string_view, const moue::parameters<C>& set) { theirs.push_back(there.fetch(set)); });
  REQUIRE(mine.size() == theirs.size());
  for (std::size_t i = 0; i < mine.size(); ++i) CHECK(same_bits(mine[i], theirs[i]));
  CHECK(there.steps(resident_optimiser)[0] == std::ssize(batches));
  CHECK(there.steps(resident_optimiser)[5] == (o.skip_untouched ? 2 : std::ssize(batches)));  // expert 1
}

}  // namespace training
