// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "emulated.hpp"
#include "recipe.hpp"

namespace test {

model_pointer<double> compose(std::string_view name, const recipe& r, const emulated& backend);
model_pointer<double> compose_public(std::string_view name, const recipe& r, const emulated& backend);

}  // namespace test
