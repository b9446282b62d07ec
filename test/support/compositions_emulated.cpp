// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "compositions_emulated.hpp"

#include "carried.hpp"
#include "compose.hpp"

namespace test {

model_pointer<double> compose(std::string_view name, const recipe& r, const emulated& backend) {
  return compose_on(name, r, backend);
}

}  // namespace test
