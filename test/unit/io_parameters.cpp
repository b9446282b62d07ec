// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/parameters.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "message_of.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "moue/parameter.hpp"
#include "moue/scalar.hpp"
#include "temporary_folder.hpp"

namespace {

using moue::io::checkpoint;
using moue::io::dtype;

constexpr float infinity = std::numeric_limits<float>::infinity();

/// "up" and "down" [2, 3], the buffer "bias" [1, 4], and "none" [0, 5].
std::shared_ptr<const moue::parameter_layout> layout() {
  auto made = std::make_shared<moue::parameter_layout>();
  for (const auto* name : {"up", "down"}) made->add(name, {.name = name, .rows = 2, .cols = 3}, -1, -1);
  made->add("bias", {.name = "bias", .rows = 1, .cols = 4, .trained = false}, 0, -1);
  made->add("none", {.name = "none", .rows = 0, .cols = 5}, 0, -1);
  return made;
}

template <class S>
moue::parameters<S> counting() {
  moue::parameters<S> values(layout());
  float next = 0.1f;
  for (moue::index_t i = 0; i < values.layout().tensors(); ++i)
    for (moue::index_t j = 0; j < values.layout()[i].size(); ++j) values[i].data[j] = S(next += 1);
  return values;
}

template <class S>
std::vector<double> numbers(const moue::parameters<S>& values) {
  std::vector<double> all;
  for (moue::index_t i = 0; i < values.layout().tensors(); ++i)
    for (moue::index_t j = 0; j < values.layout()[i].size(); ++j)
      all.push_back(static_cast<double>(static_cast<moue::compute_t<S>>(values[i].data[j])));
  return all;
}

/// What `load` says to a file of these tensors, each filled with its value; the model must be untouched.
struct attempt {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::uint64_t> shape;
  float value = 1;
};
template <class S = float>
std::string refusal(const std::vector<attempt>& tensors, std::string_view prefix = "") {
  const temporary_folder folder;
  std::vector<moue::io::tensor_spec> specs;
  for (const auto& tensor : tensors) specs.push_back({tensor.name, tensor.type, tensor.shape});
  moue::io::safetensors_writer writer(folder / "f", specs);
  for (const auto& tensor : tensors) {
    std::uint64_t count = 1;
    for (const auto n : tensor.shape) count *= n;
    std::vector<std::byte> bytes(count * static_cast<std::uint64_t>(moue::io::bits_of(tensor.type)) / 8);
    if (tensor.type == dtype::f32) {
      const std::vector<float> values(count, tensor.value);
      bytes.assign(std::as_bytes(std::span(values)).begin(), std::as_bytes(std::span(values)).end());
    }
    writer.write(tensor.name, 0, bytes);
  }
  writer.commit();
  auto values = counting<S>();
  const auto before = numbers(values);
  const checkpoint from(folder / "f");
  const auto text = message_of([&] { moue::io::load(from, values, prefix); });
  CHECK((numbers(values) == before) == !text.empty());
  return text;
}

const attempt up{"up", dtype::f32, {2, 3}}, down{"down", dtype::f32, {2, 3}}, bias{"bias", dtype::f32, {1, 4}},
    none{"none", dtype::f32, {0, 5}};

attempt with(attempt tensor, float value) {
  tensor.value = value;
  return tensor;
}

}  // namespace

TEST_CASE_TEMPLATE("weights there and back, to the bit", S, double, float, moue::bf16, moue::half) {
  const temporary_folder folder;
  const auto saved = counting<S>();
  moue::io::save(folder / "f", saved, {{"step", "7"}});
  const checkpoint from(folder / "f");
  CHECK(from.names() == std::vector<std::string>{"bias", "down", "none", "up"});
  CHECK(from.aliases().empty());
  CHECK(from.metadata().at("step") == "7");
  CHECK(from.entry("up").type == moue::io::dtype_of<S>());
  CHECK(from.entry("bias").shape == std::vector<std::uint64_t>{1, 4});
  moue::parameters<S> loaded(layout());
  moue::io::load(from, loaded);
  CHECK(numbers(loaded) == numbers(saved));

  // The same file for another type of storage: rounded once.
  moue::parameters<moue::bf16> rounded(layout());
  moue::io::load(from, rounded);
  CHECK(static_cast<float>(rounded["up"](0, 0)) == static_cast<float>(moue::bf16(1.1f)));
}

TEST_CASE("what does not fit is named, and nothing is loaded") {
  CHECK(refusal({up, down, bias, none}).empty());
  CHECK(contains(refusal({up, bias, none}), "tensor 'down' is missing"));
  CHECK(contains(refusal({up, down, bias}), "tensor 'none' is missing"));
  CHECK(
      contains(refusal({up, down, bias, none, {"extra", dtype::f32, {}}}), "tensor 'extra' has no place in the model"));
  CHECK(contains(refusal({up, {"down", dtype::f32, {3, 2}}, bias, none}),
                 "tensor 'down' has shape [3, 2] where the model has [2, 3]"));
  CHECK(contains(refusal({up, {"down", dtype::f32, {6}}, bias, none}), "tensor 'down' has shape [6]"));
  CHECK(contains(refusal({up, {"down", dtype::f32, {}}, bias, none}), "tensor 'down' has shape []"));
  CHECK(contains(refusal({up, {"down", dtype::f32, {1, 2, 3}}, bias, none}), "tensor 'down' has shape [1, 2, 3]"));
  CHECK(refusal({up, down, {"bias", dtype::f32, {4}}, none}).empty());
  for (const auto type : {dtype::f8_e4m3, dtype::i32, dtype::boolean, dtype::c64})
    CHECK(contains(refusal({up, {"down", type, {2, 3}}, bias, none}), "tensor 'down' has type"));
}

TEST_CASE("numbers that are none") {
  CHECK(contains(refusal({up, with(down, NAN), bias, none}), "tensor 'down' holds NaN at element 0"));
  CHECK(contains(refusal({up, down, with(bias, NAN), none}), "tensor 'bias' holds NaN at element 0"));
  CHECK(contains(refusal({with(up, infinity), down, bias, none}), "tensor 'up' holds infinity"));
  CHECK(refusal({up, down, with(bias, -infinity), none}).empty());  // "closed" is a buffer's right
  CHECK(refusal({with(up, 70000), down, bias, none}).empty());
  CHECK(contains(refusal<moue::half>({with(up, 70000), down, bias, none}), "a number too large"));

  // Beyond the first block of numbers that is looked at.
  const temporary_folder folder;
  auto large = std::make_shared<moue::parameter_layout>();
  large->add("large", {.name = "large", .rows = 100, .cols = 100}, -1, -1);
  moue::parameters<float> values(large);
  values["large"](99, 99) = NAN;
  moue::io::save(folder / "f", values);
  CHECK(contains(message_of([&] { moue::io::load(checkpoint(folder / "f"), values); }), "holds NaN at element 9999"));
}

TEST_CASE("a part of a checkpoint, by prefix") {
  const auto under = [](attempt tensor) {
    tensor.name = "moe." + tensor.name;
    return tensor;
  };
  const attempt other{"embedding", dtype::i64, {3}};
  CHECK(refusal({under(up), under(down), under(bias), under(none), other}, "moe.").empty());
  CHECK(contains(refusal({under(up), under(down), under(bias), under(none), other}), "tensor 'up' is missing"));
  CHECK(contains(refusal({under(up), under(bias), under(none), other}, "moe."), "tensor 'moe.down' is missing"));
  CHECK(contains(refusal({under(up), under(down), under(bias), under(none), under(other)}, "moe."),
                 "tensor 'moe.embedding' has no place"));
}

TEST_CASE("memory external twice is stored once") {
  const temporary_folder folder;
  std::array<float, 6> shared{1, 2, 3, 4, 5, 6}, apart{7, 8, 9, 10, 11, 12};
  std::array<float, 4> buffer{1, 2, 3, 4};
  const std::array<float*, 4> tied{shared.data(), shared.data(), buffer.data(), nullptr};
  moue::io::save(folder / "tied", moue::parameters<float>(layout(), tied));
  const checkpoint from(folder / "tied");
  CHECK(from.aliases() == moue::io::string_map{{"down", "up"}});
  CHECK(from.names().size() == 4);

  auto own = counting<float>();
  moue::io::load(from, own);
  CHECK(own["down"](1, 2) == 6);
  CHECK(own["up"](1, 2) == 6);
  shared.fill(0);
  moue::parameters<float> again(layout(), tied);
  moue::io::load(from, again);
  CHECK(shared == std::array<float, 6>{1, 2, 3, 4, 5, 6});

  // Different numbers for one place.
  const std::array<float*, 4> separate{shared.data(), apart.data(), buffer.data(), nullptr};
  moue::io::save(folder / "separate", moue::parameters<float>(layout(), separate));
  CHECK(checkpoint(folder / "separate").aliases().empty());
  const auto text = message_of([&] { moue::io::load(checkpoint(folder / "separate"), again); });
  CHECK(contains(text, "tensors 'up' and 'down' differ, but the model keeps them in the same memory"));
  CHECK(shared == std::array<float, 6>{1, 2, 3, 4, 5, 6});
  apart = shared;
  moue::io::save(folder / "separate", moue::parameters<float>(layout(), separate));
  moue::io::load(checkpoint(folder / "separate"), again);
}
