// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "island.hpp"

#include "carried.hpp"
#include "compose.hpp"
#include "compositions.hpp"

namespace test {

model_pointer<double> compose(std::string_view name, const recipe& r, const island& backend) {
  return compose_on(name, r, backend);
}

}  // namespace test
