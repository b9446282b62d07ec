// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "../../examples/report/json.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

TEST_CASE("json reads back as it was written") {
  const std::string awkward = "quote \" backslash \\ line\nbreak \t tab \x01\x1f é <&>";
  const std::vector<double> numbers{0, -0.0, 0.1, 1.0 / 3, 1e300, 5e-324, 123456789012345680.0, -2};
  std::ostringstream out;
  report::json_writer json(out);
  json.begin_object().member("text", awkward).member("yes", true).member("none", nullptr);
  json.member("largest", std::numeric_limits<std::uint64_t>::max()).member("least", std::int64_t{-9223372036854775807});
  json.member("float", 0.1f)
      .member("numbers", numbers)
      .member("bad",
              std::vector{std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1.0});
  json.member("nested", std::vector<std::vector<int>>{{1, 2}, {}, {3}})
      .member("words", std::vector<std::string>{"a", ""});
  json.key("list").begin_array();
  json.begin_object().member(awkward, 1).end_object().begin_object().end_object().value("x").end_array();
  CHECK_FALSE(json.complete());
  json.end_object();
  CHECK(json.complete());

  const auto read_back = nlohmann::json::parse(out.str());
  CHECK(read_back.size() == 11);
  CHECK(read_back["text"] == awkward);
  CHECK(read_back["yes"] == true);
  CHECK(read_back["none"].is_null());
  CHECK(read_back["largest"] == std::numeric_limits<std::uint64_t>::max());
  CHECK(read_back["least"] == std::int64_t{-9223372036854775807});
  CHECK(read_back["float"].get<float>() == 0.1f);
  CHECK(read_back["numbers"].get<std::vector<double>>() == numbers);
  CHECK(read_back["bad"] == nlohmann::json::parse("[null, null, 1]"));
  CHECK(read_back["nested"] == nlohmann::json::parse("[[1, 2], [], [3]]"));
  CHECK(read_back["words"] == nlohmann::json::parse(R"(["a", ""])"));
  CHECK(read_back["list"][0][awkward] == 1);
  CHECK(read_back["list"][1] == nlohmann::json::object());
  CHECK(out.str().find("\"float\": 0.1,") != std::string::npos);
}

TEST_CASE("json is UTF-8 whatever the text is") {
  std::ostringstream out;
  report::json_writer(out).begin_object().member("a\xff", "/tmp/\xe9t\xe9\n").end_object();
  CHECK(nlohmann::json::parse(out.str())["a\ufffd"] == "/tmp/\ufffdt\ufffd\n");
}

TEST_CASE("json refuses calls that make no document") {
  std::ostringstream out;
  const auto refused = [&](auto f) {
    report::json_writer json(out);
    CHECK_THROWS_AS(f(json), std::logic_error);
  };
  refused([](auto& json) { json.key("a"); });
  refused([](auto& json) { json.begin_array().key("a"); });
  refused([](auto& json) { json.begin_object().value(1); });
  refused([](auto& json) { json.begin_object().key("a").key("b"); });
  refused([](auto& json) { json.begin_object().key("a").end_object(); });
  refused([](auto& json) { json.begin_object().end_array(); });
  refused([](auto& json) { json.end_object(); });
  refused([](auto& json) { json.value(1).value(2); });
}
