// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <ostream>
#include <ranges>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "moue/io/text.hpp"

namespace report {

/// Writes one JSON document piece by piece. Numbers keep every bit (shortest text that reads back the same), whatever the
/// locale; NaN and infinities become null, bytes of text that are no UTF-8 U+FFFD. Calls out of order throw std::logic_error.
class json_writer {
 public:
  explicit json_writer(std::ostream& out) : out_(out) {}

  json_writer& begin_object() { return open('{', '}'); }
  json_writer& end_object() { return close('}'); }
  json_writer& begin_array() { return open('[', ']'); }
  json_writer& end_array() { return close(']'); }

  json_writer& key(std::string_view name) {
    require(!levels_.empty() && levels_.back().end == '}' && !after_key_, "a key belongs in an object, before a value");
    separate();
    quote(name);
    out_ << ": ";
    after_key_ = true;
    return *this;
  }

  json_writer& value(std::nullptr_t) {
    before_value();
    out_ << "null";
    return *this;
  }
  json_writer& value(bool x) {
    before_value();
    out_ << (x ? "true" : "false");
    return *this;
  }
  template <class T>
  requires std::integral<T> || std::floating_point<T> json_writer& value(T x) {
    if constexpr (std::floating_point<T>)
      if (!std::isfinite(x)) return value(nullptr);
    before_value();
    std::array<char, 64> text;
    const auto end = std::to_chars(text.data(), text.data() + text.size(), x).ptr;
    out_.write(text.data(), end - text.data());
    return *this;
  }
  json_writer& value(std::string_view x) {
    before_value();
    quote(x);
    return *this;
  }
  json_writer& value(const char* x) { return value(std::string_view(x)); }
  /// An array of what `value` takes, nested ranges included.
  template <std::ranges::input_range R>
    requires(!std::convertible_to<const R&, std::string_view>)
  json_writer& value(const R& range) {
    begin_array();
    for (const auto& x : range) value(x);
    return end_array();
  }

  json_writer& member(std::string_view name, const auto& x) {
    key(name);
    return value(x);
  }

  /// Whether a document was begun and everything opened is closed.
  bool complete() const { return started_ && levels_.empty(); }

 private:
  struct level {
    char end;
    bool empty = true;
  };

  static void require(bool holds, const char* law) {
    if (!holds) throw std::logic_error(std::string("json_writer: ") + law);
  }

  json_writer& open(char begin, char end) {
    before_value();
    out_ << begin;
    levels_.push_back({end});
    return *this;
  }
  json_writer& close(char end) {
    require(!levels_.empty() && levels_.back().end == end && !after_key_, "what is closed must be open and complete");
    const bool empty = levels_.back().empty;
    levels_.pop_back();
    if (end == '}' && !empty) new_line();
    out_ << end;
    if (levels_.empty()) out_ << '\n';
    return *this;
  }
  void before_value() {
    if (levels_.empty()) {
      require(!started_, "a document is one value");
      started_ = true;
    } else if (levels_.back().end == '}') {
      require(after_key_, "a value in an object needs a key");
    } else {
      separate();
    }
    after_key_ = false;
  }
  /// Members of objects get lines of their own, elements of arrays do not.
  void separate() {
    auto& now = levels_.back();
    if (!now.empty) out_ << ',';
    if (now.end == '}')
      new_line();
    else if (!now.empty)
      out_ << ' ';
    now.empty = false;
  }
  void new_line() { out_ << '\n' << std::string(2 * levels_.size(), ' '); }

  void quote(std::string_view text) {
    constexpr std::string_view hex = "0123456789abcdef";
    out_ << '"';
    for (const char c : moue::io::valid_utf8(text)) {
      const auto code = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\')
        out_ << '\\' << c;
      else if (c == '\n')
        out_ << "\\n";
      else if (code < 0x20)
        out_ << "\\u00" << hex[code >> 4] << hex[code & 15];
      else
        out_ << c;
    }
    out_ << '"';
  }

  std::ostream& out_;
  std::vector<level> levels_;
  bool after_key_ = false;
  bool started_ = false;
};

}  // namespace report
