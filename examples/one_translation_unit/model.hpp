// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <moue/any.hpp>
#include <string_view>

/// "universal" or "local": experts that several layers share, or a pool of its own for every layer. Null for other names.
std::shared_ptr<const moue::any_model<float>> make_model(std::string_view name, moue::index_t width);
