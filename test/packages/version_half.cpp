// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// One half of a program whose other half has another version of the library: it works, and sees its own version, looked
// up in memory since that is what the linker may have merged. The command line renames `main`, and says HALF and MINOR.

#include "main.cpp"

int HALF() {
  const int* volatile minor = &moue::version_minor;
  return main() + (*minor != MINOR);
}
