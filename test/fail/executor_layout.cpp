// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: (use of|call to) deleted( member)? function
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"
#include "moue/expert/copy.hpp"

// A reference into an executor that is gone at the end of the line.
moue::index_t tensors() {
#ifdef MOUE_TEST_FIXED
  const moue::executor run(moue::copy_expert{4}, 2, moue::reference{});
  const auto& layout = run.layout();
#else
  const auto& layout = moue::executor(moue::copy_expert{4}, 2, moue::reference{}).layout();
#endif
  return layout->tensors();
}
