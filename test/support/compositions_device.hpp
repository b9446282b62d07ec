// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What tests run on a device, behind types that any compiler knows: a CUDA device in test/cuda, an emulated one in
// test/unit.

#include <vector>

#include "recipe.hpp"

namespace test {

/// The names that `compose_on_device` knows: all, or a few that meet most policies, as this build was asked for.
std::vector<std::string> compositions_on_device();

/// The composition called `name` there.
model_pointer<double> compose_on_device(std::string_view name, const recipe& r);

/// The composition of stored.hpp there; for `float` and `moue::bf16`. In test/cuda only, as what follows.
template <moue::Storage S>
model_pointer<S> stored_on_device();

/// A mixture of user_mixtures.hpp there.
model_pointer<double> user_on_device(std::string_view name);

}  // namespace test
