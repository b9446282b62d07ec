// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a runtime needs the members 'policy', 'launch', 'upload', 'download', 'copy', 'zero'
#include <thrust/system/cpp/execution_policy.h>

#include "moue/backend/cuda/runtime.cuh"

struct mine {
  auto policy() const { return thrust::cpp::par; }
  void launch(auto&&...) const {}
  void upload(const void*, void*, std::size_t) const {}
  void download(const void*, void*, std::size_t) const {}
  void copy(const void*, void*, std::size_t) const {}
#ifdef MOUE_TEST_FIXED
  void zero(void*, std::size_t) const {}
#endif
  void synchronise() const {}
  void* allocate(std::size_t) const { return nullptr; }
  void release(void*) const {}
  int multiprocessors() const { return 1; }
};

static_assert(moue::check_runtime<mine>());
