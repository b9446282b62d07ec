// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/io/text.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "message_of.hpp"
#include "moue/io/message.hpp"

using moue::io::printable;
using moue::io::valid_utf8;

TEST_CASE("text that only shows is unchanged") {
  for (const std::string_view text : {"", "plain", "a\\nb 'c' \"d\"", "é 漢 😀 ß", "\xf4\x8f\xbf\xbf", "\xc2\xa0"}) {
    CHECK(printable(text) == text);
    CHECK(valid_utf8(text) == text);
  }
}

TEST_CASE("what acts on a terminal is spelt out") {
  CHECK(printable("a\nb\r\tc") == "a\\nb\\r\\tc");
  CHECK(printable("\x1b[2J\x7f\x07") == "\\x1b[2J\\x7f\\x07");
  CHECK(printable(std::string("\0", 1)) == "\\x00");
  CHECK(printable("\u009b31m\u0085") == "\\u009b31m\\u0085");  // controls of one byte, in UTF-8
  CHECK(printable("a\u202eb\u2028c\u2066") == "a\\u202eb\\u2028c\\u2066");
  CHECK(printable("\U000e0041") == "\\U000e0041");
  for (int byte = 0; byte < 256; ++byte)
    for (const char c : printable(std::string(1, static_cast<char>(byte)))) CHECK((c >= 0x20 && c < 0x7f));
  const std::string odd = "a\n\x1b\xff\u202e\\";
  CHECK(printable(printable(odd)) == printable(odd));
}

TEST_CASE("bytes that are no UTF-8") {
  const std::string_view bad[] = {
      "\xff", "\xc0\x80", "\x80", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x82\x82\xac"};
  for (const auto text : bad) {
    std::string hex, marks;
    for (const char c : text) {
      constexpr std::string_view digits = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(c);
      hex += std::string("\\x") + digits[byte >> 4] + digits[byte & 15];
      marks += "\ufffd";
    }
    CHECK(printable("a" + std::string(text) + "é") == "a" + hex + "é");
    CHECK(valid_utf8("a" + std::string(text) + "é") == "a" + marks + "é");
  }
  CHECK(valid_utf8("a\nb") == "a\nb");
}

TEST_CASE("a long name is cut between characters") {
  std::string name;
  for (int i = 0; i < 100; ++i) name += "漢";  // 300 bytes
  const auto text = moue::io::detail::shown("x" + name);
  CHECK(text.ends_with("漢...'"));
  CHECK_FALSE(contains(text, "\\x"));
  CHECK(moue::io::detail::shown(std::string(200, 'n')) == "'" + std::string(200, 'n') + "'");
}
