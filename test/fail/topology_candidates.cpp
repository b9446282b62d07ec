// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a topology needs the member 'void candidates\(index layer, auto emit\) const'
#include "moue/backend/reference.hpp"
#include "moue/expert/copy.hpp"
#include "moue/mixture.hpp"

struct mine {
  moue::index layers() const { return 2; }
  moue::index experts() const { return 3; }
#ifdef MOUE_TEST_MENDED
  void candidates(moue::index layer, auto emit) const { emit(layer); }
#endif
};

int main() {
  moue::mixture<moue::copy, mine, decltype(moue::linear_router(1)), moue::no_balancing, moue::reference>(
      {4}, {}, moue::linear_router(1));
}
