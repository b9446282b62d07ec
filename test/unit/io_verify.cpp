// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/verify.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "message_of.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "moue/io/sharded.hpp"
#include "safetensors_text.hpp"
#include "temporary_folder.hpp"

namespace {

using moue::io::checkpoint;
using moue::io::dtype;
using list = std::vector<std::string>;

std::uint32_t checksum(std::string_view text) {
  moue::io::crc32c sum;
  sum.add(bytes_of_text(text));
  return sum.value();
}

const std::vector<moue::io::tensor_spec> three{
    {"a", dtype::u8, {100}}, {"b", dtype::f32, {25}}, {"none", dtype::f32, {0}}};

std::string pattern(std::size_t size, int seed) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += static_cast<char>(i * 37 + static_cast<std::size_t>(seed));
  return text;
}

void write_three(const std::filesystem::path& path) {
  moue::io::safetensors_writer writer(path, three, {}, {{"alias", "b"}});
  writer.write("a", 0, bytes_of_text(pattern(100, 1)));
  writer.write("b", 0, bytes_of_text(pattern(100, 2)));
  writer.commit();
}

}  // namespace

TEST_CASE("the checksum is CRC-32C") {
  // RFC 3720, B.4, and the usual check value.
  CHECK(checksum("") == 0);
  CHECK(checksum("123456789") == 0xe3069283);
  CHECK(checksum(std::string(32, '\0')) == 0x8a9136aa);
  CHECK(checksum(std::string(32, '\xff')) == 0x62a8ab43);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending += c;
  CHECK(checksum(ascending) == 0x46dd794e);
  for (std::size_t cut = 0; cut <= 32; ++cut) {
    moue::io::crc32c sum;
    sum.add(bytes_of_text(std::string_view(ascending).substr(0, cut)));
    sum.add(bytes_of_text(std::string_view(ascending).substr(cut)));
    CHECK(sum.value() == 0x46dd794e);
  }
}

TEST_CASE("what was written is intact, whatever the order of its pieces") {
  const temporary_folder folder;
  write_three(folder / "whole");
  const auto data = pattern(100, 1);
  moue::io::safetensors_writer pieces(folder / "pieces", three, {}, {{"alias", "b"}});
  pieces.write("b", 0, bytes_of_text(pattern(50, 2)));
  pieces.write("a", 60, bytes_of_text(data.substr(60)));
  pieces.write("a", 0, bytes_of_text(std::string(70, 'x')));  // counts no more
  pieces.write("a", 0, bytes_of_text(data.substr(0, 60)));
  pieces.write("a", 60, bytes_of_text(data.substr(60)));
  pieces.write("b", 50, bytes_of_text(pattern(100, 2).substr(50)));
  pieces.commit();
  CHECK(read_file(folder / "pieces") == read_file(folder / "whole"));
  const checkpoint from(folder / "whole");
  const auto found = moue::io::verify(from);
  CHECK(found.passed());
  CHECK(found.intact == 3);
  CHECK(from.metadata() == moue::io::string_map{{"format", "pt"}});
  // For other tools: the sum of a tensor's bytes, by name.
  const auto recorded =
      nlohmann::json::parse(moue::io::safetensors_file(folder / "whole").metadata().at("moue.checksums"));
  char expected[9];
  std::snprintf(expected, sizeof expected, "%08x", checksum(data));
  CHECK(recorded == nlohmann::json{{"a", expected}, {"b", recorded["b"]}, {"none", "00000000"}});
}

TEST_CASE("every flipped bit of the data is found") {
  const temporary_folder folder;
  write_three(folder / "f");
  const auto good = read_file(folder / "f");
  for (std::size_t bit = 0; bit < 200 * 8; ++bit) {
    auto bad = good;
    auto& byte = bad[bad.size() - 200 + bit / 8];
    byte = static_cast<char>(byte ^ (1 << bit % 8));
    write_file(folder / "f", bad);
    const auto found = moue::io::verify(checkpoint(folder / "f"));
    REQUIRE(found.damaged == list{bit < 800 ? "b" : "a"});  // wider types come first
    REQUIRE(found.intact == 2);
    REQUIRE(!found.passed());
  }
}

TEST_CASE("several files, and files of others") {
  const temporary_folder folder;
  moue::io::sharded_writer writer(folder.path, three, 100);
  CHECK(writer.files().size() == 2);
  writer.write("a", 0, bytes_of_text(pattern(100, 1)));
  writer.write("b", 0, bytes_of_text(pattern(100, 2)));
  writer.commit();
  CHECK(moue::io::verify(checkpoint(folder.path)).intact == 3);
  auto bad = read_file(folder / writer.files()[0]);
  bad.back() = static_cast<char>(bad.back() ^ 1);
  write_file(folder / writer.files()[0], bad);
  CHECK(moue::io::verify(checkpoint(folder.path)).damaged == list{"a"});

  const auto foreign = [&](const std::string& metadata) {
    write_file(folder / "f",
               safetensors_text("{" + metadata + R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
    return moue::io::verify(checkpoint(folder / "f"));
  };
  CHECK(foreign("").unrecorded == list{"a"});
  CHECK(!foreign("").passed());
  CHECK(foreign(R"("__metadata__":{"moue.checksums":"{}"},)").unrecorded == list{"a"});
  CHECK(foreign(R"("__metadata__":{"moue.checksums":"{\"a\":\"\"}"},)").damaged == list{"a"});
  CHECK(contains(message_of([&] { foreign(R"("__metadata__":{"moue.checksums":"["},)"); }),
                 "the checksums in its metadata"));
}
