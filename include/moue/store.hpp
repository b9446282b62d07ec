// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The one choice that operations with an output offer.

namespace moue::inline v0_1 {

/// Whether an operation replaces its output or adds to it.
enum class store { assign, add };

}  // namespace moue::inline v0_1
