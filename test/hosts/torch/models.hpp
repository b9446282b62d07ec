// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <moue/adapt/torch/experts.hpp>
#include <moue/any.hpp>
#include <string_view>

/// Width 8. "universal": three layers that share experts and have some of their own, a depth state of 4 numbers, and a
/// loss over the depth; "local": two layers of three experts and the Switch loss. "threads": "universal" over torch's
/// threads. "told": one layer that is routed by noise, `side` and `sequences` alone. Null for other names.
template <moue::Storage S>
std::shared_ptr<const moue::any_model<S>> make_model(std::string_view name);

/// Five experts of width 8.
template <moue::Storage S>
moue::torch_experts<S> make_experts();
