// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a backend needs the members 'workers', 'operations', 'dispatch', 'needs', 'each_block', 'upload' and 'download'
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"
#include "moue/expert/copy.hpp"

struct mine : moue::host_transfers {
  moue::index_t workers() const { return 1; }
  moue::reference_operations operations(auto) const { return {}; }
  void dispatch(const auto& routing, moue::dispatch_plan& plan) const { moue::make_plan(routing, plan); }
  template <class S>
  moue::block_needs needs(moue::index_t entries, moue::index_t, moue::index_t) const {
    return {.rows = entries};
  }
#ifdef MOUE_TEST_FIXED
  template <class S>
  void each_block(const moue::dispatch_plan&, moue::index_t, auto, moue::index_t, const auto&, const auto&) const {}
#endif
};

template class moue::executor<moue::copy_expert, mine>;
