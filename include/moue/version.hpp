// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The version of the library. The build reads it from here.

namespace moue::inline v0_1 {

inline constexpr int version_major = 0;  ///< breaks users when it changes, once it is not 0
inline constexpr int version_minor = 1;  ///< adds; breaks users too while the first is 0
inline constexpr int version_patch = 0;  ///< fixes

}  // namespace moue::inline v0_1
