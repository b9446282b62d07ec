// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a grouped backend needs the members 'workers', 'operations', 'dispatch', 'group', 'upload' and 'download'
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"
#include "moue/expert/copy.hpp"

struct mine {
  static constexpr bool grouped = true;
  moue::index_t workers() const { return 1; }
  moue::reference_operations operations(auto) const { return {}; }
  void dispatch(const auto& routing, moue::dispatch_plan& plan) const { moue::make_plan(routing, plan); }
#ifdef MOUE_TEST_FIXED
  template <class C>
  moue::reference_operations group(const moue::dispatch_plan&, moue::vector_view<const std::int32_t>,
                                   moue::index_t) const {
    return {};
  }
#endif
  void upload(auto from, auto* to) const { std::copy(from.begin(), from.end(), to); }
  void download(const auto* from, auto to) const { std::copy_n(from, to.size(), to.begin()); }
};

template class moue::executor<moue::copy_expert, mine>;
