// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/safetensors.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "message_of.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "safetensors_text.hpp"
#include "temporary_folder.hpp"

namespace {

using moue::io::dtype;

/// Bytes that differ from place to place and from tensor to tensor.
std::string pattern(std::size_t size, std::size_t seed) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 37 + seed * 11 + 5) & 0xff);
  return text;
}

std::string content(const moue::io::safetensors_file& file, std::string_view name) {
  const auto bytes = file.bytes(*file.find(name));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

const std::filesystem::path golden = std::filesystem::path(MOUE_TEST_DATA) / "safetensors/golden.safetensors";

}  // namespace

TEST_CASE("the types and their names") {
  for (int i = 0; i < static_cast<int>(dtype::unknown); ++i) {
    const auto type = static_cast<dtype>(i);
    CHECK(moue::io::dtype_called(moue::io::name_of(type)) == type);
    CHECK(moue::io::bits_of(type) > 0);
  }
  CHECK(moue::io::dtype_called("F32") == dtype::f32);
  CHECK(moue::io::dtype_called("f32") == dtype::unknown);
  CHECK(moue::io::dtype_called("") == dtype::unknown);
  CHECK(moue::io::dtype_called("unknown") == dtype::unknown);
  CHECK(moue::io::bits_of(dtype::f6_e3m2) == 6);
  CHECK(moue::io::dtype_of<moue::half>() == dtype::f16);
  CHECK(moue::io::dtype_of<moue::bf16>() == dtype::bf16);
  CHECK(moue::io::dtype_of<double>() == dtype::f64);
  CHECK(moue::io::dtype_of<std::int16_t>() == dtype::i16);
  CHECK(moue::io::dtype_of<std::uint64_t>() == dtype::u64);
  CHECK(moue::io::dtype_of<bool>() == dtype::boolean);
  CHECK(moue::io::dtype_of<std::string>() == dtype::unknown);
}

TEST_CASE("a file of the format's own package is read") {
  const moue::io::safetensors_file file(golden);
  CHECK(file.path() == golden);
  CHECK(file.metadata().at("made by") == "golden.py\n");
  REQUIRE(file.tensors().size() == 2);
  const auto* wide = file.find("wide \"ü\"");
  REQUIRE(wide);
  CHECK(wide->type == dtype::f32);
  CHECK(wide->shape == std::vector<std::uint64_t>{2, 3});
  std::array<float, 6> values{};
  REQUIRE(file.bytes(*wide).size() == sizeof(values));
  std::memcpy(values.data(), file.bytes(*wide).data(), sizeof(values));
  CHECK(values == std::array<float, 6>{1, -2, 0.5, std::numeric_limits<float>::infinity(), 3e-45f, 65504});
  CHECK(file.find("a.narrow")->type == dtype::i16);
  CHECK(content(file, "a.narrow") == std::string("\xfe\xff\xff\xff\0\0\1\0\2\0", 10));
  CHECK(file.find("a") == nullptr);
  CHECK(file.find("") == nullptr);
}

TEST_CASE("a file of the format's own package is written, byte for byte") {
  const moue::io::safetensors_file file(golden);
  const temporary_folder folder;
  moue::io::safetensors_writer writer(folder / "copy",
                                      {{"a.narrow", dtype::i16, {5}}, {"wide \"ü\"", dtype::f32, {2, 3}}},
                                      {{"made by", "golden.py\n"}});
  for (const auto& tensor : file.tensors()) writer.write(tensor.name, 0, file.bytes(tensor));
  writer.commit();
  CHECK(read_file(folder / "copy") == read_file(golden));
}

TEST_CASE("every type, scalars and tensors without elements, there and back") {
  const temporary_folder folder;
  const std::vector<std::vector<std::uint64_t>> shapes{{}, {0}, {3, 0, 2}, {8}, {2, 3, 4}};
  std::vector<moue::io::tensor_spec> specs;
  for (int type = 0; type < static_cast<int>(dtype::unknown); ++type)
    for (std::size_t i = 0; i < shapes.size(); ++i)
      if (moue::io::bits_of(static_cast<dtype>(type)) >= 8 || i > 0)  // a scalar of less than a byte is refused
        specs.push_back({"t" + std::to_string(type) + "." + std::to_string(i), static_cast<dtype>(type), shapes[i]});
  CHECK(specs.size() == 22 * 5 - 3);

  const auto size = [](const moue::io::tensor_spec& spec) {
    std::size_t count = 1;
    for (const auto n : spec.shape) count *= n;
    return count * static_cast<std::size_t>(moue::io::bits_of(spec.type)) / 8;
  };
  moue::io::safetensors_writer writer(folder / "all", specs);
  for (std::size_t i = 0; i < specs.size(); ++i)
    writer.write(specs[i].name, 0, bytes_of_text(pattern(size(specs[i]), i)));
  writer.commit();

  moue::io::safetensors_file opened(folder / "all");
  const auto* first = opened.find("t17.3");
  const auto file = std::move(opened);
  CHECK(file.find("t17.3") == first);  // entries survive a move
  REQUIRE(file.tensors().size() == specs.size());
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto* tensor = file.find(specs[i].name);
    REQUIRE(tensor);
    CHECK(tensor->type == specs[i].type);
    CHECK(tensor->type_name == moue::io::name_of(specs[i].type));
    CHECK(tensor->shape == specs[i].shape);
    CHECK(content(file, specs[i].name) == pattern(size(specs[i]), i));
    if (tensor->begin != tensor->end && moue::io::bits_of(specs[i].type) >= 8)
      CHECK(tensor->begin % static_cast<std::uint64_t>(moue::io::bits_of(tensor->type) / 8) == 0);
    bytes += size(specs[i]);
  }
  CHECK((std::filesystem::file_size(folder / "all") - bytes) % 8 == 0);
}

TEST_CASE("tensors may lie at any address") {
  const temporary_folder folder;
  const auto data = pattern(9, 1);
  write_file(folder / "odd", safetensors_text(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                              R"("b":{"dtype":"F64","shape":[],"data_offsets":[1,9]}})",
                                              data));
  CHECK(content(moue::io::safetensors_file(folder / "odd"), "b") == data.substr(1));
}

TEST_CASE("what is no safetensors file is refused by name") {
  const temporary_folder folder;
  const auto refusal = [&](const char* name) {
    const auto text = message_of([&] { moue::io::safetensors_file{folder / name}; });
    CHECK(contains(text, (folder / name).string()));
    return text;
  };
  CHECK(contains(refusal("none"), "cannot be opened: No such file"));
  write_file(folder / "empty", "");
  CHECK(contains(refusal("empty"), "too short"));
  write_file(folder / "text", "A text that is no tensor file.");
  CHECK(contains(refusal("text"), "is no safetensors file"));
  std::filesystem::create_directory(folder / "folder");
  CHECK(contains(refusal("folder"), "is not a regular file"));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(contains(refusal("pipe"), "is not a regular file"));
  write_file(folder / "cut", read_file(golden).substr(0, std::filesystem::file_size(golden) - 4));
  CHECK(contains(refusal("cut"), "tensor "));
  write_file(folder / "long", read_file(golden) + "x");
  CHECK(contains(refusal("long"), "no tensor covers the last 1"));
}

TEST_CASE("an open file keeps its content when another takes its name") {
  const temporary_folder folder;
  std::filesystem::copy_file(golden, folder / "a");
  const moue::io::safetensors_file file(folder / "a");
  moue::io::safetensors_writer(folder / "a", {}).commit();
  CHECK(content(file, "a.narrow").size() == 10);
  std::filesystem::remove(folder / "a");
  CHECK(content(file, "a.narrow")[0] == '\xfe');
}

TEST_CASE("entries of another file are refused") {
  const temporary_folder folder;
  moue::io::safetensors_writer(folder / "none", {}).commit();
  const moue::io::safetensors_file none(folder / "none"), other(golden);
  CHECK(contains(message_of([&] { none.bytes(other.tensors()[0]); }), "is not of this file"));
}

TEST_CASE("files beyond 4 GiB") {
  const temporary_folder folder;
  constexpr std::uint64_t large = 5'000'000'001;
  const auto path = folder / "large";
  const auto last = pattern(3, 7);
  try {
    // Never written bytes are holes: the file takes a few blocks of the disk.
    moue::io::atomic_file sparse(path);
    const auto header = safetensors_text(R"({"a":{"dtype":"U8","shape":[5000000001],"data_offsets":[0,5000000001]},)"
                                         R"("b":{"dtype":"U8","shape":[3],"data_offsets":[5000000001,5000000004]}})");
    sparse.resize(header.size() + large + 3);
    sparse.write(0, bytes_of_text(header));
    sparse.write(header.size() + large, bytes_of_text(last));
    sparse.commit();
  } catch (const moue::error& refused) {
    MESSAGE("skipped, the file system takes no sparse file of 5 GB: ", refused.what());
    return;
  }
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  if (status.st_blocks > 100'000) {
    MESSAGE("skipped, the file system stores holes as zeros");
    return;
  }
  const moue::io::safetensors_file file(path);
  CHECK(file.bytes(*file.find("a")).size() == large);
  CHECK(file.bytes(*file.find("a"))[large - 1] == std::byte{0});
  CHECK(content(file, "b") == last);
}

TEST_CASE("errors tell a path that cannot be used from a file that holds something else") {
  const temporary_folder folder;
  const auto path = folder / "a.safetensors";
  CHECK(kind_of([&] { moue::io::safetensors_file{path}; }) == moue::error_kind::file);
  CHECK(kind_of([&] { moue::io::safetensors_file{folder.path}; }) == moue::error_kind::file);
  moue::io::replace_file(path, "no tensors here");
  CHECK(kind_of([&] { moue::io::safetensors_file{path}; }) == moue::error_kind::content);
  CHECK(kind_of([&] {
          moue::io::safetensors_writer(path, {{"a", dtype::f32, {1}}}).commit();
        }) == moue::error_kind::misuse);  // nothing was written
}
