// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// JSON text as a stream of events, for readers that build nothing which the text did not earn: no tree, no allocation
/// beyond what stands in the text, and every duplicate key is seen. And as a tree, of bounded depth.

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "moue/error.hpp"
#include "moue/io/message.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::io::detail {

/// Texts longer than this are refused unread; the limit that safetensors sets for its header.
inline constexpr std::size_t longest_json = 100'000'000;

/// The deepest nesting of a text that is made a tree. Whoever walks, copies or prints a tree needs stack for every level.
inline constexpr int deepest_json = 100;

/// `text` as a tree. Throws `moue::error`, with `where` as its name, if it is no JSON, longer than 100 MB or nested deeper
/// than any file of ours: the one way to a tree from what others wrote.
inline nlohmann::json read_tree(std::string_view text, const std::string& where) {
  const auto refuse = [&](const std::string& what) {
    throw error(where, what, "fix or remove it", error_kind::content);
  };
  if (text.size() > longest_json) refuse("has more than 100 MB");
  try {
    return nlohmann::json::parse(text, [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      if (depth > deepest_json) refuse("nests more than " + std::to_string(deepest_json) + " lists and objects");
      return true;
    });
  } catch (const nlohmann::json::exception&) {
    throw error(where, "is no JSON", "fix or remove it", error_kind::content);
  }
}

/// A number of a tree that can be an id or a count, or nothing: 4.9, 1e3, -5 and 10^18 are none.
inline std::optional<index_t> whole_number(const nlohmann::json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > 0x7fffffff) return {};
  return static_cast<index_t>(value.get<std::uint64_t>());
}

/// Refuses every event. A reader derives from it and hides the events it has a use for.
class json_events {
 public:
  explicit json_events(std::string where) : where_(std::move(where)) {}

  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("a truth value"); }
  bool number_integer(nlohmann::json::number_integer_t) { unexpected("a negative number"); }
  bool number_unsigned(nlohmann::json::number_unsigned_t) { unexpected("a number"); }
  bool number_float(nlohmann::json::number_float_t, const std::string&) {
    unexpected("a fraction or too large a number");
  }
  bool string(std::string&) { unexpected("a string"); }
  bool binary(nlohmann::json::binary_t&) { unexpected("binary data"); }
  bool start_object(std::size_t) { unexpected("an object"); }
  bool key(std::string&) { unexpected("a key"); }
  bool end_object() { unexpected("the end of an object"); }
  bool start_array(std::size_t) { unexpected("a list"); }
  bool end_array() { unexpected("the end of a list"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) { not_json(position); }
  [[noreturn]] void not_json(std::size_t position) const {
    refuse("the text is no JSON at byte " + std::to_string(position));
  }

 protected:
  [[noreturn]] void refuse(const std::string& what) const {
    throw error(where_, what, "get the file again, or write it with a tool that follows the format",
                error_kind::content);
  }
  [[noreturn]] void unexpected(const std::string& what) const { refuse(what + " stands where the format has none"); }

 private:
  std::string where_;
};

/// Sends all of `text` through `events`, which throw what they refuse.
template <class Events>
void read_json(std::string_view text, Events& events) {
  // The library takes a zero byte for the end of its input, and what follows it would go unseen.
  if (const auto zero = text.find('\0'); zero != std::string_view::npos) events.not_json(zero);
  nlohmann::json::sax_parse(text.begin(), text.end(), &events);
}

/// An object whose values are strings.
class string_map_events : public json_events {
 public:
  using json_events::json_events;
  std::map<std::string, std::string> values;

  bool start_object(std::size_t) {
    if (std::exchange(open_, true)) unexpected("an object");
    return true;
  }
  bool key(std::string& name) {
    const auto [place, fresh] = values.try_emplace(name);
    if (!fresh) refuse("the key " + shown(name) + " occurs twice");
    value_ = &place->second;
    return true;
  }
  bool string(std::string& text) {
    if (!value_) unexpected("a string");
    *std::exchange(value_, nullptr) = std::move(text);
    return true;
  }
  bool end_object() { return true; }

 private:
  bool open_ = false;
  std::string* value_ = nullptr;
};

inline std::map<std::string, std::string> read_string_map(std::string_view text, const std::string& where) {
  string_map_events events(where);
  read_json(text, events);
  return std::move(events.values);
}

}  // namespace moue::inline v0_1::io::detail
