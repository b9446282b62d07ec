// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "recipe.hpp"

namespace test {

class island;

/// The composition called `name`, on a backend.
model_pointer<double> compose(std::string_view name, const recipe& r, moue::reference backend);
model_pointer<double> compose(std::string_view name, const recipe& r, moue::cpu backend);
model_pointer<double> compose(std::string_view name, const recipe& r, const island& backend);

/// Those of them that are put together as public models are, or null: source files of their own, for shorter builds.
model_pointer<double> compose_public(std::string_view name, const recipe& r, moue::reference backend);
model_pointer<double> compose_public(std::string_view name, const recipe& r, moue::cpu backend);
model_pointer<double> compose_public(std::string_view name, const recipe& r, const island& backend);

}  // namespace test
