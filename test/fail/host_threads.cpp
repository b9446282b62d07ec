// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: 'cpu' runs on a number of threads of its own, or on threads of the host: a value with the members 'size' and 'run'
#include "moue/backend/cpu.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  moue::index_t size() const { return 2; }
#endif
  void run(moue::index_t count, const auto& f) const {
    for (moue::index_t task = 0; task < count; ++task) f(task);
  }
};

const moue::cpu backend{mine{}};
