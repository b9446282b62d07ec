// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A pass allocates when it is made, and never again.

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "compositions.hpp"
#include "stack.hpp"

namespace {
std::atomic<int> allocations{0};

void* counted(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

/// Allocations of one step, forward and backward, that follows another.
int allocations_of_a_step(const test::any_model<double>& model, moue::mode how) {
  const moue::index_t tokens = 40;
  const auto weights = test::random_weights(model, 1);
  const moue::pass_options options{.tokens = tokens, .how = how};
  moue::workspace scratch(model.workspace_bytes(options));
  const auto pass = model.start(weights, options, scratch);
  moue::gradients<double> gradients(model.layout());
  auto x = test::noise_vector(2, tokens * model.width());
  const moue::matrix_view view(x.data(), tokens, model.width());
  const std::vector<std::uint8_t> valid(static_cast<std::size_t>(tokens), 1);
  const int before = allocations;
  pass->begin(tokens, {.valid = {valid.data(), tokens}});
  for (moue::index_t l = 0; l < model.layers(); ++l) pass->forward(l, {view, {}}, view);
  pass->balance(1);
  if (how == moue::mode::training)
    for (moue::index_t l = model.layers(); l-- > 0;) pass->backward(l, view, {view, {}}, gradients);
  gradients.reset();
  return allocations - before;
}

}  // namespace

TEST_CASE("a step allocates nothing") {
  for (const auto& name : test::compositions())
    for (const auto how : {moue::mode::training, moue::mode::inference}) {
      CAPTURE(name);
      CHECK(allocations_of_a_step(*test::compose(name, {}, moue::reference{}), how) == 0);
      CHECK(allocations_of_a_step(*test::compose(name, {}, moue::cpu{}), how) == 0);
      CHECK(allocations_of_a_step(*test::compose(name, {}, moue::cpu{2}), how) == 0);
    }
}
