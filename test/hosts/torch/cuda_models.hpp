// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <moue/adapt/torch/experts.hpp>
#include <moue/any.hpp>

/// "universal" of models.hpp on torch's CUDA device.
std::shared_ptr<const moue::any_model<double>> make_cuda_model();
/// The executor of models.hpp there.
moue::torch_experts<double> make_cuda_experts();
