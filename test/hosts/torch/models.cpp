// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The one translation unit that knows compositions.

#include "models.hpp"

#include <moue/adapt/torch/threads.hpp>
#include <moue/any/erase.hpp>
#include <moue/moue.hpp>

namespace {

constexpr moue::swiglu expert{.width = 8, .hidden = 12};

template <moue::Storage S>
auto universal(const moue::cpu& backend) {
  const moue::mixture mixture{expert,
                              moue::staggered_rotation{.depth = 3, .pool = 4, .window = 3, .stride = 1, .local = 1},
                              moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.5}};
  return moue::erase<S>(mixture.on(backend));
}

}  // namespace

template <moue::Storage S>
std::shared_ptr<const moue::any_model<S>> make_model(std::string_view name) {
  if (name == "universal") return universal<S>(moue::cpu{});
  if (name == "threads") return universal<S>(moue::cpu{moue::torch_threads{}});
  if (name == "local")
    return moue::erase<S>(moue::mixture{expert, moue::layer_local{.depth = 2, .per_layer = 3}, moue::linear_router(1),
                                        moue::switch_loss{.weight = 0.5}});
  return nullptr;
}

template <moue::Storage S>
moue::torch_experts<S> make_experts() {
  return moue::torch_experts<S>(moue::executor{expert, 5, moue::cpu{}});
}

template std::shared_ptr<const moue::any_model<double>> make_model(std::string_view);
template std::shared_ptr<const moue::any_model<float>> make_model(std::string_view);
template std::shared_ptr<const moue::any_model<moue::bf16>> make_model(std::string_view);
template moue::torch_experts<double> make_experts();
template moue::torch_experts<float> make_experts();
