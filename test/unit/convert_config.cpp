// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "../../examples/moue_convert/config_text.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <string>

TEST_CASE("numbers of a config are changed where they stand, and nothing else is") {
  const std::map<std::string, moue::index_t, std::less<>> changes{{"n", 12}, {"m", -3}};
  const auto with = [&](const std::string& text) { return converting::with_numbers(text, changes, {"text_config"}); };
  CHECK(with(R"({"n": 4, "x": 1.50e3,"m":7})") == R"({"n": 12, "x": 1.50e3,"m":-3})");
  CHECK(with("{\n\t\"n\" :\n 4.0e0\n}\n") == "{\n\t\"n\" :\n 12\n}\n");
  CHECK(with(R"({"text_config":{"n":4,"deep":{"n":4}},"vision_config":{"n":4},"n":4})") ==
        R"({"text_config":{"n":12,"deep":{"n":4}},"vision_config":{"n":4},"n":12})");
  for (const auto* same :
       {R"({"n": null, "m": "4", "list": ["n", 4, {"n": 4}], "a": {"n": 4}, "limit": Infinity})", R"({"x\"n": 4})",
        R"({"text_config": [{"n": 4}], "x": "n", "y": 4})", "{}", "", R"({"n":)", R"({"n)", "\"\\"})
    CHECK(with(same) == same);
  CHECK(with(R"({"n": [4, 5,-1.5e3 ], "m": [], "x": [4], "m": 1})") ==
        R"({"n": [12, 12,12 ], "m": [], "x": [4], "m": -3})");
  CHECK(with(R"({"n": [4, [5]], "m": [null], "x": {"n": 4}, "n": {"n": 4}, "n": 4})") ==
        R"({"n": [4, [5]], "m": [null], "x": {"n": 4}, "n": {"n": 4}, "n": 12})");
  CHECK(converting::with_numbers(R"({"a":{"b":{"n":1},"n":1},"n":1,"b":{"n":1}})", changes, {"a.b"}) ==
        R"({"a":{"b":{"n":12},"n":1},"n":12,"b":{"n":1}})");
  const auto deep = R"({"a":)" + std::string(100'000, '[') + std::string(100'000, ']') + R"(,"n":)";
  CHECK(with(deep + "4}") == deep + "12}");
}
