// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <algorithm>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

/// An empty folder that goes, with all that is in it, when the test is over.
struct temporary_folder {
  std::filesystem::path path;

  temporary_folder() {
    auto pattern = (std::filesystem::temp_directory_path() / "moue_test_XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw std::runtime_error("no temporary folder can be made");
    path = pattern;
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }

  std::filesystem::path operator/(std::string_view name) const { return path / name; }
  /// The names of the files in it, sorted.
  std::vector<std::string> list() const {
    std::vector<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(path)) names.push_back(file.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
};

inline void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
