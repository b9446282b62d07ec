// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <moue/any.hpp>

/// Four layers that share eight experts.
std::shared_ptr<const moue::any_model<float>> make_layers(moue::index_t width);
