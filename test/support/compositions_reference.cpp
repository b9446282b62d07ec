// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "compose.hpp"

#include "compositions.hpp"

namespace test {

const std::vector<std::string>& compositions() {
  static const std::vector<std::string> names{
      "linear_bias", "linear_raw",       "linear_trajectory", "normalised",    "query",
      "always_on",   "keyed_trajectory", "mixed_pool",        "tied_revisits", "uneven_widths",
      "qwen2_moe",   "deepseek_v2",      "deepseek_v3",       "gpt_oss",       "phi_moe"};
  return names;
}

model_pointer<double> compose(std::string_view name, const recipe& r, moue::reference backend) {
  return compose_on(name, r, backend);
}

}  // namespace test
