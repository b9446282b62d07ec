// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How kernels of this backend are started: in one dimension.

#include <cstddef>
#include <limits>
#include <string>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail::gpu {

/// Starts `kernel(arguments)` in `blocks` blocks with `shared` bytes of dynamic shared memory each, unless there are none.
/// Throws if there are more blocks than a grid can have.
template <class Runtime, class Arguments>
void launch_blocks(const Runtime& runtime, void (*kernel)(Arguments), index_t blocks, int threads, int shared,
                   const Arguments& arguments) {
  if (blocks <= 0) return;
  detail::require(
      blocks <= (std::numeric_limits<int>::max)(), "cuda",
      [&] { return "a kernel needs " + std::to_string(blocks) + " blocks of threads"; },
      "give it fewer rows at a time");
  runtime.launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)),
                 static_cast<std::size_t>(shared), arguments);
}

}  // namespace moue::inline v0_1::detail::gpu
