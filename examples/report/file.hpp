// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace report {

/// Writes `content` to `path` so that readers see the old file or the whole new one. The folder must exist. Throws
/// std::runtime_error that names the path.
inline void replace_file(const std::filesystem::path& path, std::string_view content) {
  auto partial = path;
  partial += ".partial";
  {
    std::ofstream out(partial, std::ios::binary | std::ios::trunc);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    out.close();
    if (!out) throw std::runtime_error("cannot write '" + path.string() + "'");
  }
  std::error_code failure;
  std::filesystem::rename(partial, path, failure);
  if (failure) {
    std::error_code ignored;
    std::filesystem::remove(partial, ignored);
    throw std::runtime_error("cannot write '" + path.string() + "': " + failure.message());
  }
}

}  // namespace report
