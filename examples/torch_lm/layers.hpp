// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the one translation unit that knows compositions gives to those that know torch.

#include <memory>
#include <moue/any.hpp>

#include "../language_model/contender.hpp"
#include "../language_model/text.hpp"

namespace torch_lm {

using language_model::corpus;
using language_model::run_config;

/// A model in training.
class contestant {
 public:
  virtual ~contestant() = default;
  /// One update; returns the loss before it, in bits per byte.
  virtual double advance() = 0;
  /// Bits per byte on batches that are spread over the held-out text.
  virtual double evaluate(moue::index_t batches) = 0;
};

/// The mixture of the demo. On torch's threads, or on the caller's alone.
std::shared_ptr<const moue::any_model<float>> make_layers(const run_config& config, bool on_torch_threads);

/// The demo itself: moue_lm without torch, on one thread. `text` must outlive it.
std::unique_ptr<contestant> make_demo(const run_config& config, const corpus& text);

}  // namespace torch_lm
