// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "compose_public.hpp"
#include "moue/backend/cpu.hpp"

namespace test {

model_pointer<double> compose_public(std::string_view name, const recipe& r, moue::cpu backend) {
  return compose_public_on(name, r, backend);
}

}  // namespace test
