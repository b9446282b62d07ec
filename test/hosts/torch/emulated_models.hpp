// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <moue/adapt/torch/experts.hpp>
#include <moue/any.hpp>

/// "universal" of models.hpp on the emulated device.
std::shared_ptr<const moue::any_model<double>> make_emulated();
/// The same, but it says that it runs on the host. The emulated device's memory is the host's, so torch's tensors on the CPU
/// go through all that is done to those on a device.
std::shared_ptr<const moue::any_model<double>> make_emulated_as_host();
/// The executor of models.hpp, in the same way.
c10::intrusive_ptr<moue::detail::torch_executor<double>> make_emulated_experts_as_host();
