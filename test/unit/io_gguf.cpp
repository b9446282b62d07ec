// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// GGUF: every type as the `gguf` package decodes it, and what each kind of damage is called. The file and its answers come
// from test/parity/gguf_file.py.

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/gguf.hpp"

namespace {

namespace io = moue::io;

/// The folder of the answers: `test/run.sh --parity` writes them anew elsewhere.
std::string data() {
  const char* given = std::getenv("MOUE_LOW_PRECISION");
  return given != nullptr ? given : MOUE_TEST_DATA;
}
const std::string folder = data() + "/gguf/";

/// Puts a file together, number by number.
struct bytes {
  std::string text;

  template <class T>
  bytes& operator<<(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  bytes& operator<<(const char* name) {
    *this << static_cast<std::uint64_t>(std::strlen(name));
    text += name;
    return *this;
  }
};

bytes start(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
  bytes result;
  result.text = "GGUF";
  result << version << tensors << keys;
  return result;
}
std::string refusal(const bytes& file) {
  return message_of([&] { io::parse_gguf(std::as_bytes(std::span(file.text)), "'a file'"); });
}

TEST_CASE("every type is decoded to the bit, from anywhere in a block") {
  const io::gguf_file file(folder + "all_types.gguf");
  const io::checkpoint answers(folder + "answers.safetensors");
  CHECK(file.tensors().size() == 9);
  for (const auto& tensor : file.tensors()) {
    CAPTURE(tensor.name);
    CHECK(tensor.shape == std::vector<std::uint64_t>{2, 256});
    const auto got = file.read<float>(tensor.name), want = answers.read<float>(tensor.name);
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < want.size(); ++i) REQUIRE(got[i] == want[i]);
    std::vector<float> some(100);
    for (const std::uint64_t first : {0u, 1u, 31u, 200u, 412u}) {
      file.read<float>(tensor.name, first, some);
      for (std::size_t i = 0; i < some.size(); ++i) REQUIRE(some[i] == want[static_cast<std::size_t>(first) + i]);
    }
    CHECK_THROWS_WITH_AS(file.read<float>(tensor.name, 413, some),
                         doctest::Contains("has 512 elements; 100 from 413 on were asked for"), moue::error);
  }
  CHECK_THROWS_WITH_AS(file.read<float>("of.Q9"), doctest::Contains("tensor 'of.Q9' is missing"), moue::error);
  const auto stored = file.bytes("of.F32");
  const auto numbers = file.read<float>("of.F32");
  CHECK((stored.size() == 2048 && std::memcmp(stored.data(), numbers.data(), stored.size()) == 0));
  CHECK(file.bytes("of.Q4_K").size() == 288);
  CHECK_THROWS_WITH_AS(file.bytes("of.Q9"), doctest::Contains("tensor 'of.Q9' is missing"), moue::error);
}

TEST_CASE("keys have values of every kind") {
  const io::gguf_file file(folder + "all_types.gguf");
  for (const char* kind : {"uint8", "uint16", "uint32", "uint64"}) CHECK(file.number("test." + std::string(kind)) == 7);
  for (const char* kind : {"int8", "int16", "int32", "int64"}) CHECK(file.number("test." + std::string(kind)) == -7);
  CHECK(file.number("test.float32") == 0.5);
  CHECK(file.number("test.float64") == 0.1);
  CHECK(file.number("test.bool") == 1);
  CHECK(file.text("test.string") == "a text");
  CHECK(file.text("general.architecture") == "llama");
  CHECK_FALSE(file.number("test.string"));
  CHECK_FALSE(file.text("test.bool"));
  CHECK_FALSE(file.number("none"));
  const auto& numbers = file.values().at("test.numbers");
  CHECK((numbers.kind == io::gguf_kind::list && numbers.count == 3 && numbers.bytes.size() == 12));
  CHECK(file.values().at("test.texts").count == 2);
}

TEST_CASE("damaged files are refused by name") {
  CHECK(refusal(start(0, 0)) == "");
  CHECK(contains(refusal({"GGML"}), "'a file': is no GGUF file"));
  CHECK(contains(refusal({"GG"}), "ends within its header"));
  CHECK(contains(refusal(start(0, 0, 1)), "is of version 1 of the format"));
  CHECK(contains(refusal(start(0, 1)), "ends within its header"));
  CHECK(contains(refusal(start(0, 1) << "key" << 13u << 1u), "has a value of the unknown kind 13"));
  CHECK(contains(refusal(start(0, 2) << "key" << 4u << 1u << "key" << 4u << 1u), "has the key 'key' twice"));
  CHECK(contains(refusal(start(0, 1) << "key" << 9u << 4u << (std::uint64_t{1} << 62)), "ends within its header"));
  CHECK(contains(refusal(start(0, 1) << "key" << 8u << ~std::uint64_t{0}), "ends within its header"));
  auto deep = start(0, 1) << "key" << 9u;
  for (int i = 0; i < 100; ++i) deep << 9u << std::uint64_t{1};
  CHECK(contains(refusal(deep), "nests more than 8 lists"));
  CHECK(contains(refusal(start(0, 1) << "general.alignment" << 4u << 24u),
                 "has the alignment 24, which is no power of two"));
  CHECK(contains(refusal(start(0, 1) << "general.alignment" << 10u << std::uint64_t{32}), "is no 32-bit number"));

  const auto tensor = [](std::uint32_t type, std::vector<std::uint64_t> shape, std::uint64_t offset, std::size_t data) {
    auto file = start(1, 0) << "t" << static_cast<std::uint32_t>(shape.size());
    for (const auto size : shape) file << size;
    file << type << offset;
    file.text.resize((file.text.size() + 31) / 32 * 32 + data);
    return refusal(file);
  };
  CHECK(tensor(0, {4, 2}, 0, 32) == "");
  CHECK(tensor(2, {32, 2}, 0, 36) == "");
  CHECK(tensor(99, {5}, 0, 1) == "");  // newer types have names and shapes
  CHECK(contains(tensor(0, {4, 2}, 0, 31), "does not hold all of tensor 't'"));
  CHECK(contains(tensor(0, {4, 2}, 32, 32), "does not hold all of tensor 't'"));
  CHECK(contains(tensor(0, {4, 2}, 1, 64), "does not hold all of tensor 't'"));
  CHECK(contains(tensor(0, {4}, ~std::uint64_t{31}, 64), "does not hold all of tensor 't'"));
  CHECK(contains(tensor(2, {33}, 0, 64), "has rows that are no whole blocks of type Q4_0"));
  CHECK(contains(tensor(0, {std::uint64_t{1} << 40, std::uint64_t{1} << 40}, 0, 64), "is larger than any file"));
  CHECK(contains(tensor(0, std::vector<std::uint64_t>(9, 1), 0, 64), "has 9 axes"));
}

}  // namespace
