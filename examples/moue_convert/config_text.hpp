// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// config.json as text, so that what a conversion does not change stays as it is: order, spelling of numbers, and what is
/// no JSON but understood by those who read it, such as NaN.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "moue/io/checkpoint.hpp"
#include "moue/io/file.hpp"
#include "moue/view.hpp"

namespace converting {

namespace io = moue::io;

/// The files that stand beside the shards of a checkpoint.
inline io::string_map beside(const std::string& config) {
  return config.empty() ? io::string_map{} : io::string_map{{"config.json", config}};
}

/// The config.json beside a checkpoint, or an empty text.
inline std::string config_text(const io::checkpoint& files) {
  const auto path = files.path().parent_path() / "config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  const io::mapped_file file(path);
  return std::string(io::detail::text_of(file.bytes()));
}

/// `text`, a JSON object that has been parsed before, with other numbers at the keys of `changes`: in the outermost object,
/// and in those `inside` it, each named by its keys with dots between them. In the place of a number there may be a list,
/// all of whose numbers are changed. Nesting is counted, so depth costs nothing.
inline std::string with_numbers(std::string_view text, const std::map<std::string, moue::index_t, std::less<>>& changes,
                                const std::vector<std::string>& inside) {
  constexpr std::string_view blanks = " \t\r\n", digits = "+-.0123456789eE", list = "+-.0123456789eE, \t\r\n";
  std::string result, key;              // the last string: before a colon it is a key
  std::vector<std::string> open;        // the objects around, by what they are called
  std::size_t copied = 0, unnamed = 0;  // `unnamed` counts what is open inside of a list
  const auto is_meant = [&] {
    std::string path;
    for (std::size_t i = 1; i < open.size(); ++i) path += (i > 1 ? "." : "") + open[i];
    return unnamed == 0 && (path.empty() || std::find(inside.begin(), inside.end(), path) != inside.end());
  };
  const auto change_numbers = [&](std::size_t at, std::size_t end, moue::index_t number) {
    while ((at = text.find_first_of(digits, at)) < end) {
      result.append(text.substr(copied, at - copied)).append(std::to_string(number));
      at = copied = std::min(text.find_first_not_of(digits, at), text.size());
    }
  };
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '"') {
      const auto begin = ++at;
      while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
      key = text.substr(begin, std::min(at, text.size()) - begin);
    } else if (c == '{' && unnamed == 0) {
      open.push_back(std::exchange(key, {}));
    } else if (c == '{' || c == '[') {
      ++unnamed;
    } else if (c == '}' || c == ']') {
      if (unnamed > 0)
        --unnamed;
      else if (!open.empty())
        open.pop_back();
    } else if (const auto change = c == ':' ? changes.find(key) : changes.end();
               change != changes.end() && is_meant()) {
      const auto begin = std::min(text.find_first_not_of(blanks, at + 1), text.size());
      const bool is_list = begin < text.size() && text[begin] == '[';
      const auto end = std::min(
          is_list ? text.find_first_not_of(list, begin + 1) : text.find_first_not_of(digits, begin), text.size());
      const bool numbers_alone = end > begin && (!is_list || (end < text.size() && text[end] == ']'));
      if (!numbers_alone) continue;
      change_numbers(begin, end, change->second);
      at = end - 1;
      if (is_list) ++unnamed;
    }
  }
  return result.append(text.substr(copied));
}

}  // namespace converting
