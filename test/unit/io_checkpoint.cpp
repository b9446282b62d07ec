// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/checkpoint.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "message_of.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "moue/io/shard_index.hpp"
#include "moue/scalar.hpp"
#include "safetensors_text.hpp"
#include "temporary_folder.hpp"

namespace {

using moue::io::checkpoint;
using moue::io::dtype;

/// A file of float tensors of three elements: base, base + 1, base + 2.
void write_floats(const std::filesystem::path& path, const std::vector<std::pair<std::string, float>>& tensors,
                  moue::io::string_map metadata = {}, moue::io::string_map aliases = {}) {
  std::vector<moue::io::tensor_spec> specs;
  for (const auto& [name, base] : tensors) specs.push_back({name, dtype::f32, {3}});
  moue::io::safetensors_writer writer(path, specs, std::move(metadata), std::move(aliases));
  for (const auto& [name, base] : tensors) {
    const std::vector<float> values{base, base + 1, base + 2};
    writer.write(name, 0, std::as_bytes(std::span(values)));
  }
  writer.commit();
}

std::string refusal(const std::filesystem::path& path) {
  return message_of([&] { checkpoint{path}; });
}

const std::string index_name = "model.safetensors.index.json";

}  // namespace

TEST_CASE("one file") {
  const temporary_folder folder;
  write_floats(folder / "model.safetensors", {{"b", 1}, {"a", 4}}, {{"format", "pt"}}, {{"c", "b"}, {"0", "b"}});
  for (const auto& path : {folder.path, folder / "model.safetensors"}) {
    auto opened = checkpoint(path);
    const auto* entry = &opened.entry("c");
    const auto from = std::move(opened);
    CHECK(&from.entry("c") == entry);
    CHECK(from.path() == folder / "model.safetensors");
    CHECK(from.files() == std::vector{folder / "model.safetensors"});
    CHECK(from.names() == std::vector<std::string>{"0", "a", "b", "c"});
    CHECK(from.aliases() == moue::io::string_map{{"0", "b"}, {"c", "b"}});
    CHECK(from.metadata() == moue::io::string_map{{"format", "pt"}});
    CHECK(entry->name == "b");
    CHECK(from.bytes("c").data() == from.bytes("b").data());
    CHECK(from.contains("0"));
    CHECK_FALSE(from.contains("d"));
    CHECK(from.read<float>("c") == std::vector<float>{1, 2, 3});
    CHECK(from.elements("a") == 3);
    CHECK_FALSE(from.config());
    const auto missing = message_of([&] { from.entry("router"); });
    CHECK(contains(missing, "has no tensor called 'router'; its names look like '0' and 'c'"));
    CHECK(contains(missing, (folder / "model.safetensors").string()));
  }
}

TEST_CASE("reading converts") {
  const temporary_folder folder;
  moue::io::safetensors_writer writer(folder / "f", {{"d", dtype::f64, {2, 2}},
                                                     {"q", dtype::boolean, {2}},
                                                     {"i", dtype::i32, {2}},
                                                     {"f8", dtype::f8_e4m3, {2}},
                                                     {"f4", dtype::f4, {4}},
                                                     {"c", dtype::c64, {}},
                                                     {"e", dtype::f32, {0}},
                                                     {"s", dtype::bf16, {}}});
  const std::vector<double> doubles{1, 0.1, -3, 1e300};
  const std::vector<std::int32_t> integers{-5, (1 << 24) + 1};
  const moue::bf16 scalar(2.5f);
  writer.write("d", 0, std::as_bytes(std::span(doubles)));
  writer.write("i", 0, std::as_bytes(std::span(integers)));
  writer.write("s", 0, std::as_bytes(std::span(&scalar, 1)));
  writer.write("q", 0, bytes_of_text(std::string_view("\0\1", 2)));
  writer.write("f8", 0, bytes_of_text("\x38\x7e"));
  writer.write("f4", 0, bytes_of_text("xx"));
  writer.write("c", 0, bytes_of_text("12345678"));
  writer.commit();

  const checkpoint from(folder / "f");
  CHECK(from.read<double>("d") == doubles);
  CHECK(from.read<float>("d")[1] == 0.1f);
  CHECK(static_cast<float>(from.read<moue::half>("d")[2]) == -3);
  CHECK(static_cast<float>(from.read<moue::bf16>("s")[0]) == 2.5f);
  CHECK(from.read<float>("f8") == std::vector<float>{1, 448});
  CHECK(from.read<float>("e").empty());
  CHECK(from.read<double>("i")[1] == 16777217);

  std::vector<double> part(2);
  from.read<double>("d", 1, part);
  CHECK(part == std::vector<double>{0.1, -3});
  from.read<double>("d", 4, std::span(part).first(0));
  const auto beyond = [&](std::uint64_t first) { return message_of([&] { from.read<double>("d", first, part); }); };
  CHECK(contains(beyond(3), "tensor 'd' has 4 elements; 2 from 3 on"));
  CHECK(contains(beyond(5), "tensor 'd' has 4 elements"));
  CHECK(contains(beyond(~0ull), "tensor 'd' has 4 elements"));
  CHECK(
      contains(message_of([&] { from.read<float>("i"); }), "tensor 'i' holds an integer at element 1 that F32 cannot"));
  std::vector<float> one(1);
  from.read<float>("i", 0, one);
  CHECK(one[0] == -5);
  for (const auto* name : {"q", "f4", "c"})
    CHECK(contains(message_of([&] { from.read<float>(name); }), "tensor '" + std::string(name) + "' has type '"));

  write_file(folder / "new", safetensors_text(R"({"a":{"dtype":"F9","shape":[1],"data_offsets":[0,2]}})", "xy"));
  const checkpoint unknown(folder / "new");
  CHECK(unknown.bytes("a").size() == 2);
  CHECK(unknown.elements("a") == 1);
  CHECK(contains(message_of([&] { unknown.read<float>("a"); }), "tensor 'a' has type 'F9'"));
}

TEST_CASE("many files and an index") {
  const temporary_folder folder;
  std::filesystem::create_directory(folder / "part");
  write_floats(folder / "x.safetensors", {{"a", 1}, {"b", 4}}, {{"format", "pt"}, {"only x", "1"}}, {{"alias", "a"}});
  write_floats(folder / "part/y.safetensors", {{"c", 7}, {"unmapped", 9}}, {{"format", "np"}, {"author", "y"}});
  // What indices in the wild carry besides: other keys of any shape, values that are no text, a wrong size.
  write_file(folder / index_name,
             R"({"version": [1, {"weight_map": {"z": 1}}], "metadata": {"total_size": 1, "author": "index",
      "share": 0.5, "none": null, "deep": {"x": {"author": "no"}}, "list": [[1], {"author": 2}], "yes": true, "n": -3},
      "weight_map": {"a": "x.safetensors", "b": "x.safetensors", "c": "part/y.safetensors"}, "end": null})");
  for (const auto& path : {folder.path, folder / index_name}) {
    const checkpoint from(path);
    CHECK(from.names() == std::vector<std::string>{"a", "alias", "b", "c"});  // and not "unmapped"
    CHECK(from.read<float>("c") == std::vector<float>{7, 8, 9});
    CHECK(from.read<float>("alias") == std::vector<float>{1, 2, 3});
    CHECK(from.files() == std::vector{folder / "x.safetensors", folder / "part/y.safetensors"});
    CHECK(from.metadata() == moue::io::string_map{{"author", "index"},
                                                  {"share", "0.5"},
                                                  {"none", "null"},
                                                  {"yes", "true"},
                                                  {"n", "-3"},
                                                  {"only x", "1"},
                                                  {"format", "pt"}});
  }
  write_floats(folder / "model.safetensors", {});
  CHECK(contains(refusal(folder.path), "holds both model.safetensors and"));
  CHECK(checkpoint(folder / index_name).contains("c"));
  const temporary_folder empty;
  CHECK(contains(refusal(empty.path), "holds neither"));
}

TEST_CASE("files that do not belong together") {
  const temporary_folder folder;
  write_floats(folder / "x", {{"a", 1}, {"b", 4}});
  write_floats(folder / "y", {{"b", 7}});
  const auto with = [&](const std::string& map) {
    write_file(folder / index_name, R"({"weight_map":{)" + map + "}}");
    return refusal(folder.path);
  };
  CHECK(with(R"("a":"x")").empty());
  CHECK(contains(with(R"("a":"y")"), "maps tensor 'a' to 'y', which does not hold it"));
  CHECK(contains(with(R"("a":"gone")"), (folder / "gone").string() + "': cannot be opened: No such file"));
  write_file(folder / "broken", "x");
  CHECK(contains(with(R"("a":"broken")"), "too short"));
}

TEST_CASE("the index decides what is read from where") {
  const temporary_folder folder;
  write_floats(folder / "x", {{"a", 1}, {"b", 4}}, {}, {{"left out", "b"}, {"again", "a"}});
  write_floats(folder / "y", {{"b", 7}, {"d", 9}});
  write_file(folder / index_name, R"({"weight_map":{"a":"./x","b":".//y"}})");
  {
    const checkpoint from(folder.path);
    CHECK(from.names() == std::vector<std::string>{"a", "again", "b", "left out"});
    CHECK(from.read<float>("b") == std::vector<float>{7, 8, 9});
    CHECK(from.read<float>("left out") == std::vector<float>{7, 8, 9});
    CHECK(from.file_of("b").path() == folder / "y");
    CHECK(from.files() == std::vector{folder / "x", folder / "y"});
  }
  write_file(folder / index_name, R"({"weight_map":{"a":"x","d":"y","again":"./x"}})");
  CHECK(contains(refusal(folder.path), "maps tensor 'again' to 'x', which does not hold it"));
  write_file(folder / index_name, R"({"weight_map":{"a":"x","d":"y"}})");
  const checkpoint from(folder.path);
  CHECK(from.names() == std::vector<std::string>{"a", "again", "d"});
}

TEST_CASE("aliases that lead nowhere") {
  const temporary_folder folder;
  const auto with = [&](const std::string& aliases) {
    write_file(folder / "f", safetensors_text(R"({"__metadata__":{"moue.aliases":")" + aliases +
                                                  R"("},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                                              "x"));
    return refusal(folder / "f");
  };
  CHECK(with("{}").empty());
  CHECK(with(R"({\"b\":\"a\"})").empty());
  CHECK(contains(with(R"({\"b\":\"c\"})"), "alias 'b' leads to 'c', which is no tensor"));
  CHECK(contains(with(R"({\"a\":\"a\"})"), "alias 'a' is also the name of a tensor"));
  CHECK(contains(with(R"({\"b\":\"a\",\"c\":\"b\"})"), "alias 'c' leads to 'b', which is no tensor"));
  CHECK(contains(with(R"({\"b\":\"a\",\"b\":\"a\"})"), "the key 'b' occurs twice"));
  CHECK(contains(with(R"({\"b\":1})"), "the aliases in its metadata"));
  CHECK(contains(with("[]"), "the aliases in its metadata"));
  CHECK(contains(with(""), "the aliases in its metadata"));
  CHECK(contains(with("\\\"a\\\""), "the aliases in its metadata"));
}

TEST_CASE("a config beside the file") {
  const temporary_folder folder;
  write_floats(folder / "model.safetensors", {{"a", 1}});
  write_file(folder / "config.json", R"({"model_type":"mixtral"})");
  CHECK(checkpoint(folder.path).config()->at("model_type") == "mixtral");
  write_file(folder / "config.json", R"({"limit": Infinity})");
  CHECK(checkpoint(folder.path).config()->at("limit") == "\x01Infinity");
  write_file(folder / "config.json", R"({"limit": Infinite})");
  const checkpoint from(folder.path);  // the tensors can be used all the same
  const auto text = message_of([&] { from.config(); });
  CHECK(contains(text, "config.json"));
  CHECK(contains(text, "is no JSON"));
  // Deeper than the stack of whoever copies or prints it.
  const auto nested = [&](std::size_t depth) {
    write_file(folder / "config.json", R"({"a":)" + std::string(depth, '[') + std::string(depth, ']') + "}");
    return message_of([&] { checkpoint(folder.path).config(); });
  };
  CHECK(nested(90).empty());
  CHECK(contains(nested(100'000), "config.json': nests more than 100 lists and objects"));
  std::filesystem::resize_file(folder / "config.json", 100'000'001);  // with a hole
  CHECK(contains(message_of([&] { checkpoint(folder.path).config(); }), "config.json': has more than 100 MB"));
}

TEST_CASE("text that is no index") {
  const auto of = [](std::string_view text) { return message_of([&] { moue::io::parse_index(text, "'here'"); }); };
  CHECK(of(R"({"weight_map":{}})").empty());
  CHECK(moue::io::parse_index(R"({"weight_map":{"":"f"}})", "").weight_map == moue::io::string_map{{"", "f"}});
  for (const std::string_view text : {"",
                                      "{",
                                      "[]",
                                      "1",
                                      "\"weight_map\"",
                                      "null",
                                      "{}",
                                      "{\"weight_map\":1}",
                                      "{\"weight_map\":null}",
                                      "{\"weight_map\":[]}",
                                      "{\"weight_map\":[\"a\"]}",
                                      "{\"weight_map\":{\"a\":1}}",
                                      "{\"weight_map\":{\"a\":null}}",
                                      "{\"weight_map\":{\"a\":[\"f\"]}}",
                                      "{\"weight_map\":{\"a\":{\"file\":\"f\"}}}",
                                      "{\"weight_map\":{},}",
                                      "{\"weight_map\":{\"a\":\"f\",\"a\":\"f\"}}",
                                      "{\"weight_map\":{},\"weight_map\":{}}",
                                      "{\"x\":{\"weight_map\":{}}}",
                                      "[{\"weight_map\":{}}]",
                                      "{\"weight_map\":{}} x",
                                      "{\"weight_map\":{\"\xff\":\"f\"}}"})
    CHECK_MESSAGE(contains(of(text), "moue: 'here': "), text);
  CHECK(contains(of("{}"), "has no 'weight_map'"));
  CHECK(contains(of(R"({"weight_map":{"a":"f","a":"g"}})"), "tensor 'a' occurs twice"));
  CHECK_FALSE(of(R"({"weight_map":{},"x":)" + std::string(1'000'000, '[')).empty());
}

TEST_CASE("an index stays inside its folder") {
  const auto of = [](const std::string& file) {
    return message_of([&] { moue::io::parse_index(R"({"weight_map":{"a":")" + file + "\"}}", "'here'"); });
  };
  for (const auto* inside :
       {"f", "f.safetensors", "part/f", "..f", "a..b", "...", "a/..b/c", "./f", "a/./f", ".//.//f"})
    CHECK_MESSAGE(of(inside).empty(), inside);
  for (const auto* outside : {"", ".", "..", "/", "/etc/passwd", "../f", "a/../f", "a/..", "a/", "./", "a/.", "./.",
                              "./../f", "//f", "f\\u0000g"})
    CHECK_MESSAGE(contains(of(outside), "outside its folder"), outside);
  const auto index = moue::io::parse_index(R"({"weight_map":{"a":"./f","b":"f","c":"x//./y"}})", "");
  CHECK(index.weight_map == moue::io::string_map{{"a", "f"}, {"b", "f"}, {"c", "x/y"}});
}
