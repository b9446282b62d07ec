// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "moue/error.hpp"

/// What `act` throws, or an empty text.
template <class Act>
std::string message_of(const Act& act) {
  try {
    act();
  } catch (const std::exception& thrown) {
    return thrown.what();
  }
  return {};
}

/// The kind of the moue::error that `act` throws, if it throws one.
template <class Act>
std::optional<moue::error_kind> kind_of(const Act& act) {
  try {
    act();
  } catch (const moue::error& thrown) {
    return thrown.kind();
  }
  return {};
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }
