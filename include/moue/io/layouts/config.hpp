// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Keys of config.json, wherever a model puts them. Nothing is copied and nothing is walked deeper than a list within an
/// object: how deep a hostile file is nested does not matter.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include "moue/error.hpp"
#include "moue/io/json_literals.hpp"
#include "moue/io/message.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::io {
namespace detail {

/// The object called "a.b" within `top`; null if there is none.
inline const nlohmann::json* object_in(const nlohmann::json& top, std::string_view path) {
  const nlohmann::json* at = &top;
  while (true) {
    if (!at->is_object()) return nullptr;
    const auto dot = path.find('.');
    const auto next = at->find(std::string(path.substr(0, dot)));
    if (next == at->end() || !next->is_object()) return nullptr;
    at = &*next;
    if (dot == path.npos) return at;
    path.remove_prefix(dot + 1);
  }
}

/// A whole number of 0 or more that fits 32 bits.
inline std::optional<index_t> config_number(const nlohmann::json& value) {
  if (!value.is_number_integer()) return {};
  const auto number = value.get<std::int64_t>();
  if (number < 0 || number > 0x7fffffff || (value.is_number_unsigned() && value.get<std::uint64_t>() > 0x7fffffff))
    return {};
  return static_cast<index_t>(number);
}

/// Looks keys up in what the caller gives, in the first of some objects that config.json has, at its top, and in what it
/// says of quantisation; the first that has a key decides, also by null, which means absent. Keeps references.
class config_reader {
 public:
  config_reader(const nlohmann::json& file, const nlohmann::json& given, std::span<const std::string> inside) {
    add("", given);
    given_ = objects_.size();
    for (const auto& path : inside)
      if (const auto* object = object_in(file, path)) {
        add(path + ".", *object);
        break;
      }
    add("", file);
    own_ = objects_.size();
    for (const char* key : {"quantization_config", "compression_config"})
      for (std::size_t i = 0; i < own_; ++i)
        if (const auto* object = object_in(*objects_[i].keys, key)) add(objects_[i].path + key + ".", *object);
  }

  /// Null if the key is absent or null. Notes that somebody asked for it.
  const nlohmann::json* find(const std::string& key) const {
    asked_.insert(key);
    for (const auto& object : objects_)
      if (const auto at = object.keys->find(key); at != object.keys->end()) return at->is_null() ? nullptr : &*at;
    return nullptr;
  }
  /// Whether the model's own config.json has the key, as null.
  bool is_null(const std::string& key) const {
    for (std::size_t i = given_; i < own_; ++i)
      if (const auto at = objects_[i].keys->find(key); at != objects_[i].keys->end()) return at->is_null();
    return false;
  }
  /// The first of `keys` that is there, or an empty text.
  std::string first(std::span<const std::string> keys) const {
    std::string result;
    for (const auto& key : keys)
      if (find(key) && result.empty()) result = key;
    return result;
  }
  /// `key` with the objects around it, in quotes.
  std::string place(const std::string& key) const {
    for (const auto& object : objects_)
      if (object.keys->contains(key)) return shown(object.path + key);
    return shown(key);
  }
  [[noreturn]] void refuse(const std::string& key, const std::string& what, const std::string& fix) const {
    throw error("config.json", place(key) + " " + what, fix, error_kind::content);
  }

  /// One key as `T`: `bool`, `index_t` (0 to 2^31 - 1), `double`, a text, or a list of `index_t`. Throws if it is something
  /// else. NaN and infinities are read as numbers.
  template <class T>
  std::optional<T> value(const std::string& key) const {
    const auto* at = find(key);
    const auto wrong = [&](const char* wanted) { refuse(key, std::string("is not ") + wanted, "fix the file"); };
    if (!at) return {};
    if constexpr (std::is_same_v<T, bool>) {
      if (!at->is_boolean()) wrong("true or false");
      return at->get<bool>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!at->is_string()) wrong("a text");
      return at->get<std::string>();
    } else if constexpr (std::is_same_v<T, double>) {
      if (at->is_number()) return at->get<double>();
      const auto literal = at->is_string() ? literal_of(at->get_ref<const std::string&>()) : std::string_view();
      constexpr double infinity = std::numeric_limits<double>::infinity();
      if (literal == "Infinity") return infinity;
      if (literal == "-Infinity") return -infinity;
      if (literal != "NaN") wrong("a number");
      return std::numeric_limits<double>::quiet_NaN();
    } else if constexpr (std::is_same_v<T, index_t>) {
      if (!at->is_number_integer()) wrong("a whole number");
      const auto number = config_number(*at);
      if (!number) wrong("between 0 and 2147483647");
      return *number;
    } else {
      static_assert(std::is_same_v<T, std::vector<index_t>>);
      if (!at->is_array()) wrong("a list");
      std::vector<index_t> values;
      for (const auto& element : *at) {
        const auto number = config_number(element);
        if (!number) wrong("a list of whole numbers");
        values.push_back(*number);
      }
      return values;
    }
  }
  template <class T>
  std::optional<T> value(std::span<const std::string> keys) const {
    const auto key = first(keys);
    return key.empty() ? std::nullopt : value<T>(key);
  }

  /// A number of every layer, which may stand there as a list of equal ones. A list of others throws, or, if they may
  /// differ, gives nothing.
  std::optional<index_t> value_of_layers(const std::string& key, bool may_differ = false) const {
    const auto* at = find(key);
    if (!at || !at->is_array()) return value<index_t>(key);
    const auto values = *value<std::vector<index_t>>(key);
    if (!values.empty() && std::all_of(values.begin(), values.end(), [&](index_t v) { return v == values[0]; }))
      return values[0];
    if (may_differ) return {};
    refuse(key, "is a list of different numbers", "layers that differ are not understood; compose them by hand");
  }

  /// Keys of the model, not of its quantisation, that are not null, that nobody asked for, and of which `wanted` holds.
  template <class Wanted>
  std::vector<std::string> unread(const Wanted& wanted) const {
    std::vector<std::string> found;
    for (std::size_t i = 0; i < own_; ++i)
      for (const auto& [key, value] : objects_[i].keys->items())
        if (find_quietly(key) && !asked_.contains(key) && wanted(key)) found.push_back(key);
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
  }

 private:
  struct place_of_keys {
    std::string path;
    const nlohmann::json* keys;
  };

  void add(const std::string& path, const nlohmann::json& keys) {
    if (keys.is_object()) objects_.push_back({path, &keys});
  }
  bool find_quietly(const std::string& key) const {
    for (const auto& object : objects_)
      if (const auto at = object.keys->find(key); at != object.keys->end()) return !at->is_null();
    return false;
  }

  std::vector<place_of_keys> objects_;
  std::size_t given_ = 0, own_ = 0;
  mutable std::set<std::string> asked_;
};

}  // namespace detail
}  // namespace moue::inline v0_1::io
