// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/safetensors/writer.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "message_of.hpp"
#include "moue/io/atomic_file.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/safetensors.hpp"
#include "safetensors_text.hpp"
#include "temporary_folder.hpp"

namespace {

using moue::io::dtype;
using moue::io::safetensors_writer;

const std::vector<moue::io::tensor_spec> two{{"a", dtype::u8, {10}}, {"b", dtype::f32, {2}}};

void fill(safetensors_writer& writer) {
  writer.write("b", 0, bytes_of_text("BBBBbbbb"));
  writer.write("a", 0, bytes_of_text("aaaaaaaaaa"));
}

}  // namespace

TEST_CASE("pieces in any order give the same file") {
  const temporary_folder folder;
  safetensors_writer whole(folder / "whole", two, {{"k", "v"}});
  fill(whole);
  whole.commit();

  safetensors_writer pieces(folder / "pieces", {two[1], two[0]}, {{"k", "v"}});
  CHECK(contains(message_of([&] { pieces.commit(); }), "tensor 'b' lacks bytes from 0 on"));
  pieces.write("a", 7, bytes_of_text("aaa"));
  pieces.write("a", 2, bytes_of_text("x"));
  pieces.write("b", 0, bytes_of_text("BBB"));
  CHECK(contains(message_of([&] { pieces.commit(); }), "tensor 'b' lacks bytes from 3 on"));
  pieces.write("b", 2, bytes_of_text("BBbbbb"));
  CHECK(contains(message_of([&] { pieces.commit(); }), "tensor 'a' lacks bytes from 0 on"));
  pieces.write("a", 0, bytes_of_text("aaaa"));
  CHECK(contains(message_of([&] { pieces.commit(); }), "tensor 'a' lacks bytes from 4 on"));
  pieces.write("a", 10, bytes_of_text(""));
  pieces.write("a", 4, bytes_of_text("aa"));
  CHECK(contains(message_of([&] { pieces.commit(); }), "tensor 'a' lacks bytes from 6 on"));
  pieces.write("a", 6, bytes_of_text("a"));
  auto moved = std::move(pieces);
  moved.commit();
  CHECK(read_file(folder / "pieces") == read_file(folder / "whole"));
  CHECK(folder.list() == std::vector<std::string>{"pieces", "whole"});
}

TEST_CASE("a writer takes what was listed and nothing else") {
  const temporary_folder folder;
  safetensors_writer writer(folder / "f", two, {}, {{"c", "a"}});
  CHECK(contains(message_of([&] { writer.write("d", 0, {}); }), "no tensor 'd' was listed"));
  CHECK(contains(message_of([&] { writer.write("c", 0, {}); }), "'c' is an alias of 'a'"));
  CHECK(contains(message_of([&] { writer.write("a", 8, bytes_of_text("xxx")); }),
                 "tensor 'a' has 10 bytes; 3 were given for byte 8 on"));
  CHECK(contains(message_of([&] { writer.write("a", 11, {}); }), "tensor 'a' has 10 bytes"));
  CHECK(contains(message_of([&] { writer.write("a", ~0ull, bytes_of_text("xx")); }), "tensor 'a' has 10 bytes"));
  fill(writer);
  writer.commit();
  CHECK(contains(message_of([&] { fill(writer); }), "has been committed already"));
  CHECK(contains(message_of([&] { writer.commit(); }), "has been committed already"));
}

TEST_CASE("lists that make no file") {
  const temporary_folder folder;
  const auto refusal = [&](std::vector<moue::io::tensor_spec> specs, moue::io::string_map metadata = {},
                           moue::io::string_map aliases = {}) {
    const auto text = message_of([&] { safetensors_writer(folder / "f", specs, metadata, aliases); });
    CHECK(folder.list().empty());
    return text;
  };
  CHECK(contains(refusal({{"a", dtype::u8, {}}, {"a", dtype::f32, {}}}), "tensor 'a' is listed twice"));
  CHECK(contains(refusal({{"__metadata__", dtype::u8, {}}}), "no tensor can be called '__metadata__'"));
  CHECK(contains(refusal({{"a", dtype::unknown, {}}}), "tensor 'a' of type unknown"));
  CHECK(contains(refusal({{"a", dtype::f4, {3}}}), "tensor 'a' of type F4 has a size that is no whole number"));
  CHECK(contains(refusal({{"a", dtype::u8, {1ull << 32, 1ull << 32}}}), "tensor 'a' of type U8"));
  CHECK(contains(refusal({{"a", dtype::f64, {1ull << 61}}}), "tensor 'a' of type F64"));
  CHECK(contains(refusal({{"a", dtype::u8, {1ull << 60}},
                          {"b", dtype::u8, {1ull << 60}},
                          {"c", dtype::u8, {1ull << 60}},
                          {"d", dtype::u8, {1ull << 60}},
                          {"e", dtype::u8, {1ull << 60}}}),
                 "together are too large"));
  CHECK(contains(refusal({{"a\xff", dtype::u8, {}}}), "no UTF-8"));
  CHECK(contains(refusal({}, {{"k", "\xff"}}), "no UTF-8"));
  CHECK(contains(refusal(two, {}, {{"\xff", "a"}}), "no UTF-8"));
  CHECK(contains(refusal({}, {{"moue.aliases", "{}"}}), "the library's own"));
  CHECK(contains(refusal({}, {{"moue.checksums", "{}"}}), "the library's own"));
  CHECK(contains(refusal(two, {}, {{"b", "a"}}), "alias 'b' is also the name of a tensor"));
  CHECK(contains(refusal(two, {}, {{"c", "d"}}), "alias 'c' leads to 'd', which is no tensor"));
  CHECK(contains(refusal(two, {}, {{"c", "a"}, {"d", "c"}}), "alias 'd' leads to 'c', which is no tensor"));
  CHECK(contains(refusal({}, {{"k", std::string(100'000'000, 'x')}}), "more than 100 MB"));
}

TEST_CASE("names and metadata of any text") {
  const temporary_folder folder;
  std::string odd("\"\\/\b\f\n\r\t\x01\x7f\0 ", 12);
  odd += "é 漢 😀";
  safetensors_writer writer(folder / "f", {{odd, dtype::u8, {}}, {"", dtype::u8, {}}}, {{odd, odd}, {"", ""}});
  writer.write(odd, 0, bytes_of_text("1"));
  writer.write("", 0, bytes_of_text("2"));
  writer.commit();
  const moue::io::safetensors_file file(folder / "f");
  auto metadata = file.metadata();
  CHECK(metadata.erase("moue.checksums") == 1);
  CHECK(metadata == moue::io::string_map{{odd, odd}, {"", ""}, {"format", "pt"}});
  REQUIRE(file.find(odd));
  CHECK(file.bytes(*file.find(odd))[0] == std::byte{'1'});
  CHECK(file.bytes(*file.find(""))[0] == std::byte{'2'});
}

TEST_CASE("a format is always named: transformers refuses files without one") {
  const temporary_folder folder;
  const auto format = [&](moue::io::string_map metadata) {
    safetensors_writer(folder / "f", {}, std::move(metadata)).commit();
    return moue::io::safetensors_file(folder / "f").metadata().at("format");
  };
  CHECK(format({}) == "pt");
  CHECK(format({{"k", "v"}}) == "pt");
  CHECK(format({{"format", "flax"}}) == "flax");
}

TEST_CASE("without a commit the old file stays and nothing is left") {
  const temporary_folder folder;
  write_file(folder / "f", "old");
  {
    safetensors_writer writer(folder / "f", two);
    fill(writer);
    CHECK(folder.list() == std::vector<std::string>{"f", "f.moue-part"});
    CHECK(read_file(folder / "f") == "old");
  }
  CHECK(folder.list() == std::vector<std::string>{"f"});
  CHECK(read_file(folder / "f") == "old");
}

TEST_CASE("a new file keeps the permissions of the old") {
  const temporary_folder folder;
  write_file(folder / "f", "old");
  std::filesystem::permissions(folder / "f", std::filesystem::perms{0600});
  safetensors_writer(folder / "f", {}).commit();
  CHECK(std::filesystem::status(folder / "f").permissions() == std::filesystem::perms{0600});
}

TEST_CASE("one writer at a time, and leftovers are taken over") {
  const temporary_folder folder;
  write_file(folder / "f.moue-part", std::string(1000, 'x'));
  {
    safetensors_writer first(folder / "f", two);
    CHECK(contains(message_of([&] { safetensors_writer(folder / "f", two); }), "is being written by another"));
    CHECK(folder.list() == std::vector<std::string>{"f.moue-part"});
    fill(first);
    first.commit();
  }
  CHECK(folder.list() == std::vector<std::string>{"f"});
  CHECK(moue::io::safetensors_file(folder / "f").tensors().size() == 2);
  safetensors_writer(folder / "f", {}).commit();

  write_file(folder / "g.moue-part", std::string(1000, 'x'));
  moue::io::atomic_file raw(folder / "g");
  raw.write(2, bytes_of_text("y"));
  raw.commit();
  CHECK(read_file(folder / "g") == std::string("\0\0y", 3));
}

TEST_CASE("what renaming would destroy is refused: links, devices, pipes") {
  const temporary_folder folder;
  write_file(folder / "target", "old");
  std::filesystem::create_symlink("target", folder / "link");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  std::filesystem::create_symlink("/dev/full", folder / "device");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  std::filesystem::create_directory(folder / "folder");
  const auto before = folder.list();
  const auto refusal = [&](const char* name) {
    const auto text = message_of([&] { moue::io::replace_file(folder / name, "new"); });
    CHECK(contains(text, (folder / name).string()));
    return text;
  };
  for (const auto* link : {"link", "dangling", "device"}) {
    CHECK(contains(refusal(link), "is a symbolic link; give the path that it leads to"));
    CHECK(std::filesystem::is_symlink(folder / link));
  }
  for (const auto* other : {"pipe", "folder"}) CHECK(contains(refusal(other), "is not a regular file"));
  CHECK(read_file(folder / "target") == "old");
  CHECK(folder.list() == before);

  // The same for the sibling that is written first.
  std::filesystem::create_symlink("target", folder / "f.moue-part");
  CHECK_FALSE(refusal("f").empty());
  REQUIRE(::mkfifo((folder / "g.moue-part").c_str(), 0600) == 0);
  CHECK(contains(refusal("g"), "g.moue-part': is not a regular file"));
  CHECK(std::filesystem::is_fifo(folder / "g.moue-part"));
  CHECK(read_file(folder / "target") == "old");
}

TEST_CASE("pieces beyond 4 GiB lie where they belong") {
  const temporary_folder folder;
  constexpr std::uint64_t far = 4'999'999'990;
  try {
    safetensors_writer writer(folder / "f", {{"a", dtype::u8, {far + 10}}});
    writer.write("a", far, bytes_of_text("far"));
    std::ifstream part(folder / "f.moue-part", std::ios::binary);
    std::string read(3, '\0');
    part.seekg(-10, std::ios::end).read(read.data(), 3);
    CHECK(read == "far");
    CHECK(part.tellg() > far);
  } catch (const moue::error& refused) {
    MESSAGE("skipped, the file system takes no sparse file of 5 GB: ", refused.what());
  }
}
