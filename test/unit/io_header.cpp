// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/safetensors/header.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "message_of.hpp"
#include "safetensors_text.hpp"

namespace {

moue::io::safetensors_header parse(std::string_view file) {
  return moue::io::parse_header(bytes_of_text(file), file.size(), "'here'");
}

std::string entry(std::string_view type, std::string_view shape, std::string_view offsets) {
  return R"({"dtype":")" + std::string(type) + R"(","shape":[)" + std::string(shape) + R"(],"data_offsets":[)" +
         std::string(offsets) + "]}";
}

std::string refusal(std::string_view header, std::size_t data = 0) {
  return message_of([&] { parse(safetensors_text(header, std::string(data, 'x'))); });
}

}  // namespace

TEST_CASE("a header lists tensors by name, with metadata and unknown types") {
  const auto file =
      safetensors_text(R"({"z":)" + entry("F32", "2,3", "0,24") + R"(,"__metadata__":{"k":"v","":"ü"},"a":)" +
                           entry("NEW_9", "4", "24,29") + R"(,"s":)" + entry("I8", "", "29,30") + R"(,"e":)" +
                           entry("U64", "5,0,7", "30,30") + "}   \n",
                       std::string(30, '\0'));
  const auto header = parse(file);
  CHECK(header.data_begin + 30 == file.size());
  CHECK(header.metadata == moue::io::string_map{{"k", "v"}, {"", "ü"}});
  REQUIRE(header.tensors.size() == 4);
  std::vector<std::string> names;
  for (const auto& tensor : header.tensors) names.push_back(tensor.name);
  CHECK(names == std::vector<std::string>{"a", "e", "s", "z"});
  const auto& unknown = header.tensors[0];
  CHECK(unknown.type == moue::io::dtype::unknown);
  CHECK(unknown.type_name == "NEW_9");
  CHECK(unknown.begin == 24);
  CHECK(unknown.end == 29);
  CHECK(header.tensors[1].shape == std::vector<std::uint64_t>{5, 0, 7});
  CHECK(header.tensors[2].shape.empty());
  CHECK(header.tensors[3].type == moue::io::dtype::f32);
}

TEST_CASE("metadata may be null, as in the format's own package") {
  const auto header = parse(safetensors_text(R"({"__metadata__":null,"a":)" + entry("U8", "1", "0,1") + "}", "x"));
  CHECK(header.metadata.empty());
  CHECK(header.tensors.size() == 1);
  CHECK(parse(safetensors_text(R"({"__metadata__":null})")).tensors.empty());
  for (const auto* text : {R"({"__metadata__":null,"__metadata__":null})", R"({"__metadata__":null,"__metadata__":{}})",
                           R"({"a":null})", R"({"__metadata__":{"k":null}})", R"({"a":{"dtype":null}})", "null"})
    CHECK_MESSAGE(!refusal(text).empty(), text);
}

TEST_CASE("no tensors at all") {
  CHECK(parse(safetensors_text("{}")).tensors.empty());
  CHECK(contains(refusal("{}", 1), "no tensor covers the last 1"));
}

TEST_CASE("the length of the header") {
  const auto file = safetensors_text("{}      ");
  for (std::size_t size = 0; size < file.size(); ++size)
    CHECK_FALSE(message_of([&] { parse(file.substr(0, size)); }).empty());
  CHECK(contains(message_of([&] { parse(""); }), "too short"));
  CHECK(contains(message_of([&] { parse(file.substr(0, 9)); }), "ends inside its header"));
  CHECK(contains(message_of([&] { parse(safetensors_text("")); }), "does not begin with '{'"));
  CHECK(contains(refusal(" {}"), "does not begin with '{'"));
  CHECK(contains(refusal("\xef\xbb\xbf{}"), "does not begin with '{'"));

  // Lengths that no file has: one more than allowed, and those that would overflow with the eight bytes added.
  for (const std::uint64_t length : {100'000'001ull, 0xffff'ffff'ffff'ffffull, 0xffff'ffff'ffff'fff8ull}) {
    std::string head;
    for (int i = 0; i < 8; ++i) head += static_cast<char>(length >> (8 * i) & 0xff);
    CHECK(contains(message_of([&] { moue::io::parse_header(bytes_of_text(head), ~0ull, "'here'"); }),
                   "more than 100 MB"));
  }
  CHECK(contains(message_of([&] { moue::io::parse_header(bytes_of_text(file), 9, "'here'"); }),
                 "ends inside its header"));
  // A file that claims to be larger than the bytes at hand.
  CHECK(contains(message_of([&] { moue::io::parse_header(bytes_of_text(file.substr(0, 12)), 1000, "'here'"); }),
                 "ends inside its header"));
}

TEST_CASE("text that is no header") {
  for (const std::string_view header : {"{",
                                        "{}x",
                                        "{}{}",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{,}",
                                        "[]",
                                        "{'a':1}",
                                        "{\"a\":1}",
                                        "{\"a\":null}",
                                        "{\"a\":[]}",
                                        "{\"a\":\"b\"}",
                                        "{\"a\":{}}",
                                        "{\"a\":true}",
                                        "{\"a\":-1}",
                                        "{\"a\":1.5}",
                                        "{\"a\":{\"b\":1}}",
                                        "{\"__metadata__\":1}",
                                        "{\"__metadata__\":[]}",
                                        "{\"__metadata__\":\"x\"}",
                                        "{\"__metadata__\":{\"a\":1}}",
                                        "{\"__metadata__\":{\"a\":null}}",
                                        "{\"__metadata__\":{\"a\":{}}}",
                                        "{\"__metadata__\":{\"a\":[\"b\"]}}",
                                        "{\"__metadata__\":{\"a\":true}}",
                                        "{\"__metadata__\":{\"a\":-1}}",
                                        "{\"__metadata__\":{\"a\":1e3}}",
                                        "{/**/}",
                                        "{\"\xff\":1}",
                                        "{\"__metadata__\":{\"a\":\"\xc3\x28\"}}"})
    CHECK_MESSAGE(contains(refusal(header), "moue: 'here': "), header);
  CHECK(contains(refusal(std::string("{}") + '\0' + "{}"), "no JSON at byte 2"));
  // Deeper than any stack, were it followed.
  CHECK_FALSE(refusal("{\"a\":" + std::string(1'000'000, '[')).empty());
  CHECK_FALSE(refusal("{\"a\":" + std::string(1'000'000, '{')).empty());
}

TEST_CASE("fields of an entry") {
  const auto of = [](std::string_view fields) { return refusal(R"({"a":{)" + std::string(fields) + "}}", 4); };
  CHECK(of(R"("dtype":"F32","shape":[],"data_offsets":[0,4])").empty());
  CHECK(of(R"("data_offsets":[0,4],"shape":[],"dtype":"F32")").empty());
  for (const auto* lacking :
       {R"("shape":[],"data_offsets":[0,4])", R"("dtype":"F32","data_offsets":[0,4])", R"("dtype":"F32","shape":[])"})
    CHECK(contains(of(lacking), "tensor 'a' lacks dtype, shape or data_offsets"));
  for (const auto* twice : {R"("dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4])",
                            R"("dtype":"F32","shape":[],"shape":[],"data_offsets":[0,4])",
                            R"("dtype":"F32","shape":[],"data_offsets":[0,4],"data_offsets":[0,4])"})
    CHECK(contains(of(twice), "occurs twice"));
  CHECK(contains(of(R"("dtype":"F32","shape":[],"data_offsets":[0,4],"extra":1)"), "a field 'extra'"));
  for (const auto* offsets : {"[]", "[0]", "[4]", "[0,4,4]", "[[0,4]]", "4", "{}", "[0,4.0]", "[-0,4]", "[0,\"4\"]",
                              "[0,18446744073709551616]"})
    CHECK_FALSE_MESSAGE(of(R"("dtype":"F32","shape":[],"data_offsets":)" + std::string(offsets)).empty(), offsets);
  for (const auto* shape : {"[-1]", "[1.0]", "[null]", "[[1]]", "1", "{}", "[18446744073709551616]", "[true]"})
    CHECK_FALSE_MESSAGE(of(R"("dtype":"F32","data_offsets":[0,4],"shape":)" + std::string(shape)).empty(), shape);
  CHECK_FALSE(of(R"("dtype":32,"shape":[],"data_offsets":[0,4])").empty());
}

TEST_CASE("names stand once") {
  const auto a = R"("a":)" + entry("U8", "1", "0,1");
  CHECK(contains(refusal("{" + a + "," + a + "}", 1), "tensor 'a' occurs twice"));
  CHECK(contains(
      refusal("{" + a + R"(,"b":)" + entry("U8", "1", "1,2") + R"(,"\u0061":)" + entry("U8", "1", "2,3") + "}", 3),
      "tensor 'a' occurs twice"));
  CHECK(contains(refusal(R"({"__metadata__":{},"__metadata__":{}})"), "'__metadata__' occurs twice"));
  CHECK(contains(refusal(R"({"__metadata__":{"k":"1","k":"1"}})"), "the key 'k' occurs twice"));
}

TEST_CASE("the tensors cover the data, each byte once") {
  const auto two = [](std::string_view first, std::string_view second, std::size_t data) {
    return refusal(R"({"a":)" + entry("U8", "4", first) + R"(,"b":)" + entry("U8", "4", second) + "}", data);
  };
  CHECK(two("0,4", "4,8", 8).empty());
  CHECK(two("4,8", "0,4", 8).empty());
  CHECK(contains(two("0,4", "5,9", 9), "tensor 'b' leaves a hole before byte 5"));
  CHECK(contains(two("1,5", "5,9", 9), "tensor 'a' leaves a hole before byte 1"));
  CHECK(contains(two("0,4", "3,7", 7), "tensor 'b' overlaps another at byte 3"));
  CHECK(contains(two("0,4", "0,4", 4), "overlaps"));
  CHECK(contains(two("0,4", "4,8", 9), "no tensor covers the last 1 of its bytes"));
  CHECK(contains(two("0,4", "4,8", 7), "tensor 'b' ends at byte 8 of 7"));
  CHECK(contains(two("4,0", "0,4", 4), "tensor 'a' ends before it begins"));
  CHECK(contains(two("0,4", "18446744073709551612,18446744073709551615", 4), "tensor 'b' ends at byte"));
}

TEST_CASE("sizes fit types and shapes") {
  const auto one = [](std::string_view type, std::string_view shape, std::size_t data) {
    return refusal(R"({"a":)" + entry(type, shape, "0," + std::to_string(data)) + "}", data);
  };
  CHECK(one("F32", "2,3", 24).empty());
  CHECK(contains(one("F32", "2,3", 23), "tensor 'a' has 23 bytes"));
  CHECK(contains(one("F32", "", 8), "tensor 'a' has 8 bytes"));
  CHECK(contains(one("F32", "0", 4), "tensor 'a' has 4 bytes"));
  CHECK(one("F32", "0", 0).empty());
  CHECK(one("F4", "4", 2).empty());
  CHECK(contains(one("F4", "3", 2), "no whole number of bytes"));
  CHECK(one("F6_E2M3", "4", 3).empty());
  CHECK(contains(one("F6_E3M2", "3", 3), "no whole number of bytes"));
  CHECK(contains(one("U8", "4294967296,4294967296", 0), "more elements than 64 bits"));
  CHECK(contains(one("U8", "4294967296,4294967296,0", 0), "more elements than 64 bits"));
  CHECK(contains(one("F64", "2305843009213693952", 0), "too large"));  // 2^61 * 64 bits
  CHECK(contains(one("F32", "18446744073709551615", 4), "too large"));
  CHECK(contains(one("NEW", "0", 4), "not what its type and shape need"));
  CHECK(contains(one("NEW", "4", 0), "not what its type and shape need"));
  CHECK(contains(one("NEW", "4294967296,4294967296", 1), "more elements than 64 bits"));
}

TEST_CASE("errors are one short line, whatever the names hold") {
  const auto name = std::string(100'000, 'n') + R"(\n\u001b)";
  const auto text = refusal("{\"" + name + "\":" + entry("U8", "2", "0,1") + "}", 1);
  CHECK(text.size() < 500);
  CHECK(contains(text, "nnn...'"));
  CHECK(contains(refusal(R"({"a\nb":)" + entry("U8", "2", "0,1") + "}", 1), "tensor 'a\\nb' has 1 bytes"));
}
