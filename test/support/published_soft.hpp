// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Soft MoE against numbers that were computed independently, on any backend.

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>
#include <vector>

#include "carried.hpp"
#include "moue/backend/blocks.hpp"
#include "moue/policies.hpp"
#include "published.hpp"
#include "published/soft.hpp"

namespace test {

/// Memory of the host for a `carrier`.
struct heap : moue::host_transfers {
  void* allocate(std::size_t bytes) const { return ::operator new(bytes); }
  void release(void* data) const { ::operator delete(data); }
};

template <class Expert>
void reproduce_soft(const published_layer& layer, const auto& backend) {
  const published::soft_mixture model{Expert{.width = layer.width(), .hidden = layer.hidden()}, layer.candidates(),
                                      layer.config("slots"), backend};
  const auto& layout = *model.layout();
  const moue::index_t tokens = layer.tokens(), width = layer.width();
  using memory_type = std::conditional_t<moue::detail::on_host<std::remove_cvref_t<decltype(backend)>>, heap,
                                         std::remove_cvref_t<decltype(backend)>>;
  const auto open = [&] {
    if constexpr (std::is_same_v<memory_type, heap>)
      return heap{};
    else
      return backend;
  };
  carrier<memory_type> there(open());
  const auto sent = [&]<class T>(const std::vector<T>& from) {
    T* const to = there.template make<T>(std::ssize(from));
    there.send(from.data(), to, std::ssize(from));
    return to;
  };
  const auto rows = [&](double* data) { return moue::matrix_view<double>{data, tokens, width}; };
  const auto theirs = weights_of(layer, model.layout());
  std::vector<double*> values, derivatives;
  for (moue::index_t i = 0; i < layout.tensors(); ++i) {
    values.push_back(sent(list(theirs[i], false)));
    derivatives.push_back(there.template make<double>(layout[i].size()));
  }
  const moue::parameters<double> weights(model.layout(), values);
  moue::gradients<double> gradients(model.layout(), derivatives,
                                    sent(std::vector<std::uint8_t>(static_cast<std::size_t>(layout.tensors()))));
  moue::arena counter;
  model.template take<double>(counter, tokens);
  const auto bytes = static_cast<moue::index_t>(counter.bytes());
  const moue::workspace scratch(std::span(there.template make<std::byte>(bytes), counter.bytes()));
  moue::arena arena(scratch.bytes());
  auto memory = model.template take<double>(arena, tokens);

  const moue::vector_view<const std::uint8_t> valid{sent(layer.valid()), tokens};
  const auto x = rows(sent(numbers(layer.section("inputs").at("x"))));
  const auto dy = rows(sent(numbers(layer.section("loss").at("weight"))));
  const auto y = rows(there.template make<double>(tokens * width));
  const auto dx = rows(there.template make<double>(tokens * width));
  model.forward(weights, x, valid, y, memory);
  const auto fetched = [&](const moue::matrix_view<double>& m) {
    return there.fetch(static_cast<const double*>(m.data), m.rows * m.cols);
  };
  const auto& expected = layer.all().at("layers")[0];
  CHECK(near(fetched(memory.combine), numbers(expected.at("combine"))));
  CHECK(near(fetched(memory.in), numbers(expected.at("slot_input"))));
  CHECK(near(fetched(memory.out), numbers(expected.at("slot_output"))));
  CHECK(near(fetched(y), numbers(layer.all().at("y"))));

  moue::gradients<double> result(model.layout());
  for (const double batches : {1.0, 2.0}) {  // the second adds
    model.backward(weights, x, dy, dx, gradients, memory);
    CHECK(near(fetched(dx), numbers(layer.all().at("grads").at("x"))));
    const auto marks = there.fetch(static_cast<const std::uint8_t*>(gradients.marks().data), layout.tensors());
    for (moue::index_t i = 0; i < layout.tensors(); ++i) {
      CHECK(marks[static_cast<std::size_t>(i)] == 1);
      there.fetch(static_cast<const double*>(gradients[i].data), result[i].data, layout[i].size());
      for (moue::index_t j = 0; j < layout[i].size(); ++j) result[i].data[j] /= batches;
    }
    compare_gradients(layer, result);
  }
}

/// On the backends; its two cases.
void reproduce_soft(const auto&... backends) {
  const auto run = [&]<class Expert>(const char* name, std::type_identity<Expert>) {
    CAPTURE(name);
    const published_layer layer(name);
    REQUIRE((layer.config("expert") == "swiglu") == std::is_same_v<Expert, moue::swiglu>);
    (reproduce_soft<Expert>(layer, backends), ...);
  };
  run("soft_one_slot", std::type_identity<moue::mlp<moue::silu>>{});
  run("soft_two_slots_pad", std::type_identity<moue::swiglu>{});
}

}  // namespace test
