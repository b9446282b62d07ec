// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/sharded.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/dtype.hpp"
#include "safetensors_text.hpp"
#include "temporary_folder.hpp"

namespace {

using moue::io::checkpoint;
using moue::io::dtype;
using moue::io::sharded_writer;
using list = std::vector<std::string>;

const std::string index_name = "model.safetensors.index.json";
const std::string journal_name = "model.safetensors.moue-journal";
const std::string first_of_two = "model-00001-of-00002.safetensors", second_of_two = "model-00002-of-00002.safetensors";

/// Tensors "0", "1", ... of four bytes each.
std::vector<moue::io::tensor_spec> fours(std::size_t count) {
  std::vector<moue::io::tensor_spec> specs;
  for (std::size_t i = 0; i < count; ++i) specs.push_back({std::to_string(i), dtype::u8, {4}});
  return specs;
}

list save(const std::filesystem::path& folder, std::size_t count, const std::string& content = "abcd") {
  sharded_writer writer(folder, fours(count), 8);
  for (std::size_t i = 0; i < count; ++i) writer.write(std::to_string(i), 0, bytes_of_text(content));
  writer.commit();
  return writer.files();
}

std::string content_of(const checkpoint& from, const std::string& name) {
  const auto bytes = from.bytes(name);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("tensors are split in order, none in two") {
  const auto names = [](const std::vector<std::vector<moue::io::tensor_spec>>& shards) {
    std::vector<list> result;
    for (const auto& shard : shards) {
      result.emplace_back();
      for (const auto& spec : shard) result.back().push_back(spec.name);
    }
    return result;
  };
  CHECK(names(moue::io::split_tensors(fours(5), 8)) == std::vector<list>{{"0", "1"}, {"2", "3"}, {"4"}});
  CHECK(names(moue::io::split_tensors(fours(3), 7)) == std::vector<list>{{"0"}, {"1"}, {"2"}});
  CHECK(names(moue::io::split_tensors(fours(3), 1)) == std::vector<list>{{"0"}, {"1"}, {"2"}});
  CHECK(names(moue::io::split_tensors(fours(3), ~0ull)) == std::vector<list>{{"0", "1", "2"}});
  CHECK(names(moue::io::split_tensors({}, 8)) == std::vector<list>{{}});
  auto mixed = fours(2);
  mixed.insert(mixed.begin() + 1, {"big", dtype::u8, {100}});
  mixed.push_back({"none", dtype::f64, {0}});
  CHECK(names(moue::io::split_tensors(mixed, 8)) == std::vector<list>{{"0"}, {"big"}, {"1", "none"}});
}

TEST_CASE("a checkpoint of several files") {
  const temporary_folder folder;
  sharded_writer writer(folder.path, fours(3), 8, {{"format", "pt"}}, {{"alias", "2"}, {"other", "0"}});
  CHECK(writer.files() == list{first_of_two, second_of_two});
  writer.write("2", 2, bytes_of_text("ij"));
  writer.write("2", 0, bytes_of_text("gh"));
  writer.write("0", 0, bytes_of_text("abcd"));
  CHECK(contains(message_of([&] { writer.commit(); }), "tensor '1' lacks bytes from 0 on"));
  CHECK_FALSE(std::filesystem::exists(folder / first_of_two));
  writer.write("1", 0, bytes_of_text("efgh"));
  CHECK(contains(message_of([&] { writer.write("3", 0, {}); }), "no tensor '3' was listed"));
  CHECK(contains(message_of([&] { writer.write("alias", 0, {}); }), "'alias' is an alias of '2'"));
  writer.commit();
  CHECK(folder.list() == list{first_of_two, second_of_two, index_name});

  const checkpoint from(folder.path);
  CHECK(from.names() == list{"0", "1", "2", "alias", "other"});
  CHECK(content_of(from, "alias") == "ghij");
  CHECK(content_of(from, "other") == "abcd");
  CHECK(from.metadata() == moue::io::string_map{{"format", "pt"}});
  const auto index = nlohmann::json::parse(read_file(folder / index_name));
  CHECK(index == nlohmann::json{{"metadata", {{"total_size", 12}}},
                                {"weight_map", {{"0", first_of_two}, {"1", first_of_two}, {"2", second_of_two}}}});
}

TEST_CASE("a new checkpoint never takes a name of the old before it is whole") {
  const temporary_folder folder;
  CHECK(save(folder.path, 3) == list{first_of_two, second_of_two});
  const checkpoint old(folder.path);
  {
    sharded_writer dropped(folder.path, fours(3), 8);
    for (const auto& name : {"0", "1", "2"}) dropped.write(name, 0, bytes_of_text("xxxx"));
  }
  CHECK(folder.list() == list{first_of_two, second_of_two, index_name});
  CHECK(content_of(checkpoint(folder.path), "2") == "abcd");

  const list others{"model.1-00001-of-00002.safetensors", "model.1-00002-of-00002.safetensors"};
  CHECK(save(folder.path, 3, "efgh") == others);
  CHECK(folder.list() == list{others[0], others[1], index_name});
  CHECK(content_of(checkpoint(folder.path), "2") == "efgh");
  CHECK(content_of(old, "2") == "abcd");
  CHECK(save(folder.path, 3) == list{first_of_two, second_of_two});
  CHECK(save(folder.path, 1) == list{"model-00001-of-00001.safetensors"});
  CHECK(folder.list() == list{"model-00001-of-00001.safetensors", index_name});
}

TEST_CASE("what a killed writer left is cleared, what is not ours stays") {
  const temporary_folder folder;
  // Named like shards, but of no index that is here: perhaps another model's, whose index somebody keeps elsewhere.
  const list strangers{"config.json",
                       "model-00001-of-00002.bin",
                       "model-00001-of-00009.safetensors",
                       "model-00003-of-00009.safetensors.moue-part",
                       "model-1-of-2.safetensors",
                       "model.1-00001-of-00009.safetensors",
                       "model.2-00001-of-00002.safetensors",
                       "other-00001-of-00002.safetensors"};
  for (const auto& name : strangers) write_file(folder / name, "x");
  for (const auto* name : {"model-00001-of-00007.safetensors", "model-00002-of-00007.safetensors.moue-part",
                           "model.1-00001-of-00002.safetensors", "model.safetensors.index.json.moue-part"})
    write_file(folder / name, "x");
  // The last line is torn, and two are none of a writer's: no such file may go.
  write_file(folder / journal_name,
             "model-00001-of-00007.safetensors\nmodel-00002-of-00007.safetensors\n"
             "model.1-00001-of-00002.safetensors\nconfig.json\n../model-00001-of-00002.bin\nmodel-00001-of-0000");
  CHECK(save(folder.path, 3) == list{first_of_two, second_of_two});
  auto expected = strangers;
  expected.insert(expected.end(), {first_of_two, second_of_two, index_name});
  std::sort(expected.begin(), expected.end());
  CHECK(folder.list() == expected);
  CHECK(checkpoint(folder.path).names().size() == 3);
  for (const auto& name : strangers) CHECK(read_file(folder / name) == "x");
}

TEST_CASE("shards that no index here names are neither overwritten nor removed") {
  const temporary_folder folder;
  write_file(folder / second_of_two, "another's");
  const list others{"model.1-00001-of-00002.safetensors", "model.1-00002-of-00002.safetensors"};
  CHECK(save(folder.path, 3) == others);
  CHECK(folder.list() == list{second_of_two, others[0], others[1], index_name});
  CHECK(read_file(folder / second_of_two) == "another's");
  CHECK(contains(message_of([&] { save(folder.path, 3); }), "holds files with both sets of names for shards"));
  CHECK(content_of(checkpoint(folder.path), "2") == "abcd");
  CHECK(save(folder.path, 5).size() == 3);  // names that nobody has
  CHECK(read_file(folder / second_of_two) == "another's");
  CHECK(folder.list().size() == 5);
}

TEST_CASE("files beside the shards come with them") {
  const temporary_folder folder;
  const auto save_with = [&](const std::string& config, bool whole = true) {
    sharded_writer writer(folder.path, fours(3), 8, {}, {}, {{"config.json", config}});
    for (std::size_t i = 0; i < (whole ? 3 : 2); ++i) writer.write(std::to_string(i), 0, bytes_of_text("abcd"));
    writer.commit();
  };
  CHECK_FALSE(message_of([&] { save_with("none", false); }).empty());
  CHECK(folder.list().empty());
  save_with("first");
  CHECK(read_file(folder / "config.json") == "first");
  save_with("second");  // of the checkpoint that is replaced
  CHECK(read_file(folder / "config.json") == "second");
  CHECK_FALSE(message_of([&] { save_with("third", false); }).empty());
  CHECK(read_file(folder / "config.json") == "second");
  CHECK(folder.list().size() == 4);

  // Without an index it is the file of another checkpoint, unless a killed writer left it.
  for (const auto& name : folder.list())
    if (name != "config.json") std::filesystem::remove(folder / name);
  CHECK(contains(message_of([&] { save_with("third"); }), "holds a 'config.json' without the checkpoint"));
  CHECK(folder.list() == list{"config.json"});
  write_file(folder / journal_name, "config.json\n");
  save_with("third");
  CHECK(read_file(folder / "config.json") == "third");
}

TEST_CASE("the last shard lacks bytes at the commit") {
  const temporary_folder folder;
  save(folder.path, 3);
  const auto before = folder.list();
  {
    sharded_writer writer(folder.path, fours(3), 8);
    for (const auto* name : {"0", "1"}) writer.write(name, 0, bytes_of_text("xxxx"));
    writer.write("2", 0, bytes_of_text("xxx"));
    CHECK(contains(message_of([&] { writer.commit(); }), "tensor '2' lacks bytes from 3 on"));
    CHECK_FALSE(std::filesystem::exists(folder / writer.files()[0]));
  }
  CHECK(folder.list() == before);
  CHECK(content_of(checkpoint(folder.path), "0") == "abcd");
}

TEST_CASE("sets that cannot be written") {
  const temporary_folder folder;
  const auto refusal = [&](std::vector<moue::io::tensor_spec> specs, moue::io::string_map aliases = {}) {
    const auto text = message_of([&] { sharded_writer(folder.path, specs, 8, {}, aliases); });
    return text;
  };
  CHECK(contains(refusal({{"a", dtype::u8, {8}}, {"a", dtype::u8, {8}}}), "tensor 'a' is listed twice"));
  CHECK(contains(refusal(fours(3), {{"a", "b"}}), "alias 'a' leads to 'b'"));
  CHECK(contains(refusal(fours(3), {{"2", "0"}}), "alias '2' is also the name of a tensor"));
  CHECK(folder.list().empty());
  CHECK(contains(message_of([&] { sharded_writer(folder / "none", fours(3), 8); }), "is no folder"));
  {
    const sharded_writer first(folder.path, fours(3), 8);
    CHECK(contains(refusal(fours(3)), "is being written by another"));
  }
  write_file(folder / index_name,
             R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model.1-00002-of-00002.safetensors"}})");
  CHECK(contains(refusal(fours(3)), "both sets of names"));
  write_file(folder / index_name, "broken");
  CHECK(save(folder.path, 3) == list{first_of_two, second_of_two});
  write_file(folder / "model.safetensors", "x");
  CHECK(contains(refusal(fours(3)), "holds a model.safetensors"));
}
