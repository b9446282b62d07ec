// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "carried.hpp"
#include "compose_public.hpp"
#include "compositions_emulated.hpp"

namespace test {

model_pointer<double> compose_public(std::string_view name, const recipe& r, const emulated& backend) {
  return compose_public_on(name, r, backend);
}

}  // namespace test
