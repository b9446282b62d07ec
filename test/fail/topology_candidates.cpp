// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a topology needs the member 'void candidates\(index_t layer, auto append\) const'
#include "moue/backend/reference.hpp"
#include "moue/expert/copy.hpp"
#include "moue/mixture.hpp"

struct mine {
  moue::index_t layers() const { return 2; }
  moue::index_t experts() const { return 3; }
#ifdef MOUE_TEST_FIXED
  void candidates(moue::index_t layer, auto append) const { append(layer); }
#endif
};

int main() {
  moue::mixture<moue::copy_expert, mine, decltype(moue::linear_router(1)), moue::no_balancing, moue::reference>(
      {4}, {}, moue::linear_router(1));
}
