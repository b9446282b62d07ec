// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The threads of torch, for `cpu`.

#include <ATen/Parallel.h>

#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// The threads that torch's own operations run on: `moue::cpu{moue::torch_threads{}}`. As many as `at::get_num_threads`
/// says when the backend is made.
struct torch_threads {
  /// How many tasks may run at once.
  index_t size() const { return at::get_num_threads(); }
  /// Calls f(task) for every task in [0, count), then returns.
  template <class F>
  void run(index_t count, const F& f) const {
    at::parallel_for(0, count, 1, [&](int64_t first, int64_t end) {
      for (int64_t task = first; task < end; ++task) f(static_cast<index_t>(task));
    });
  }
};

}  // namespace moue::inline v0_1
