// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "compositions_emulated.hpp"

#include "carried.hpp"
#include "compose.hpp"
#include "compositions_device.hpp"

namespace test {

model_pointer<double> compose(std::string_view name, const recipe& r, const emulated& backend) {
  return compose_on(name, r, backend);
}

std::vector<std::string> compositions_on_device() { return compositions(); }
model_pointer<double> compose_on_device(std::string_view name, const recipe& r) { return compose(name, r, emulated()); }

}  // namespace test
