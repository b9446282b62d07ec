// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

#include "usual.hpp"

shared_model make_usual_swiglu(const usual_settings& settings) {
  return make_usual(moue::swiglu{.width = settings.width, .hidden = settings.hidden}, settings);
}
