// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// MOUE_TEST_ASAN is defined where AddressSanitizer is on; g++ and clang say so in different ways.

#if defined(__SANITIZE_ADDRESS__)
#define MOUE_TEST_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOUE_TEST_ASAN
#endif
#endif
