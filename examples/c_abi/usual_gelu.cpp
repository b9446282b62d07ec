// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

#include "usual.hpp"

shared_model make_usual_gelu(const usual_settings& settings) {
  return make_usual(moue::mlp<moue::gelu>{.width = settings.width, .hidden = settings.hidden}, settings);
}
