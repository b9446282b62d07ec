// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// DLPack with PyTorch's own header, for test_dlpack.py: takes tensors over, and lends one.

#include <ATen/dlpack.h>

#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <moue/adapt/dlpack.hpp>
#include <vector>

namespace {

int alive = 0;

struct counted {
  std::vector<float> numbers = {0, 1, 2, 3, 4, 5, 6, 7};
  counted() { ++alive; }
  ~counted() { --alive; }
};

}  // namespace

extern "C" {

int lent_alive() { return alive; }

/// Rows, columns, stride and sum of what a capsule holds; or text, and false. Gives the tensor back.
bool describe(void* managed, bool versioned, double* out, char* text, std::size_t size) {
  try {
    const auto tensor = versioned ? moue::dlpack_tensor(static_cast<DLManagedTensorVersioned*>(managed))
                                  : moue::dlpack_tensor(static_cast<DLManagedTensor*>(managed));
    const auto rows = tensor.rows<const float>();
    out[0] = static_cast<double>(rows.rows), out[1] = static_cast<double>(rows.cols);
    out[2] = static_cast<double>(rows.stride), out[3] = 0, out[4] = tensor.read_only() ? 1 : 0;
    for (moue::index_t i = 0; i < rows.rows; ++i)
      for (const float x : rows.row(i)) out[3] += static_cast<double>(x);
    return true;
  } catch (const std::exception& e) {
    std::snprintf(text, size, "%s", e.what());
    return false;
  }
}

/// [2, 3] of rows that are four apart, from the second element on.
void* lend() {
  const auto owner = std::make_shared<counted>();
  return moue::to_dlpack(moue::matrix_view<float>{owner->numbers.data() + 1, 2, 3, 4}, owner);
}
void* lend_read_only() {
  const auto owner = std::make_shared<counted>();
  return moue::to_dlpack_versioned(moue::vector_view<const float>{owner->numbers.data(), 8}, owner);
}

}  // extern "C"
