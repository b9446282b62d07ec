// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a backend needs the members 'workers', 'operations', 'dispatch' and 'each_group'
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"
#include "moue/expert/copy.hpp"

struct mine {
  moue::index_t workers() const { return 1; }
  moue::reference_operations operations(auto) const { return {}; }
  void dispatch(const auto& routing, moue::dispatch_plan& plan) const { moue::make_plan(routing, plan); }
#ifdef MOUE_TEST_FIXED
  void each_group(const moue::dispatch_plan&, auto, const auto&) const {}
#endif
};

template class moue::executor<moue::copy_expert, mine>;
