// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "emulated.hpp"

#include "emulated_models.hpp"
#include "moue/any/erase.hpp"
#include "moue/policies.hpp"

namespace {

constexpr moue::swiglu expert{.width = 8, .hidden = 12};

// The fake cuBLAS knows the device's own allocations alone, not torch's.
const test::emulated_open device{1, moue::product_choice{.dense_blas = false}};

/// Says that it runs on the host.
template <class Base>
struct as_host final : Base {
  using Base::Base;
  bool on_host() const override { return true; }
};

auto universal() {
  return moue::mixture{expert, moue::staggered_rotation{.depth = 3, .pool = 4, .window = 3, .stride = 1, .local = 1},
                       moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.5}, device};
}

}  // namespace

std::shared_ptr<const moue::any_model<double>> make_emulated() { return moue::erase<double>(universal()); }

std::shared_ptr<const moue::any_model<double>> make_emulated_as_host() {
  using erased = moue::detail::erased_model<decltype(universal()), double>;
  return std::make_shared<as_host<erased>>(universal());
}

c10::intrusive_ptr<moue::detail::torch_executor<double>> make_emulated_experts_as_host() {
  using erased = moue::detail::torch_executor_of<moue::swiglu, test::emulated_open, double>;
  return c10::make_intrusive<as_host<erased>>(moue::executor{expert, 5, device});
}
