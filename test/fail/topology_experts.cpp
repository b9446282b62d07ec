// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a topology needs the member 'index_t experts\(\) const'
#include "moue/backend/reference.hpp"
#include "moue/expert/copy.hpp"
#include "moue/mixture.hpp"

struct mine {
  moue::index_t layers() const { return 2; }
#ifdef MOUE_TEST_FIXED
  moue::index_t experts() const { return 3; }
#endif
  void candidates(moue::index_t layer, auto append) const { append(layer); }
};

int main() {
  moue::mixture<moue::copy_expert, mine, decltype(moue::linear_router(1)), moue::no_balancing, moue::reference>(
      {4}, {}, moue::linear_router(1));
}
