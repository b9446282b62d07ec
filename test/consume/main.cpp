// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <moue/version.hpp>

int main() {
  static_assert(moue::version_major == 0);
  return 0;
}
