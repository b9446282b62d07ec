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

/// Logits of noise, a number beside each token, and whether the first sequence is over.
struct told {
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& f, const auto&, const auto&) const {
    ops.each_element(f.logits.rows, f.logits.cols, [f](moue::index_t t, moue::index_t j) {
      f.logits(t, j) += static_cast<C>(moue::normal_at(f.at, t, j));
      if (!f.batch.side.empty() && j == 0) f.logits(t, j) += static_cast<C>(f.batch.side(t, 0));
      if (f.batch.sequences.size > 1 && j == 1 && t >= f.batch.sequences[1]) f.logits(t, j) += C(3);
    });
  }
  template <class C>
  void backward(const auto&, const moue::router_frame<C>&, const moue::router_gradient<C>&, const auto&, const auto&,
                const auto&) const {}
};

}  // namespace

template <moue::Storage S>
std::shared_ptr<const moue::any_model<S>> make_model(std::string_view name) {
  if (name == "universal") return universal<S>(moue::cpu{});
  if (name == "threads") return universal<S>(moue::cpu{moue::torch_threads{}});
  if (name == "local")
    return moue::erase<S>(moue::mixture{expert, moue::layer_local{.depth = 2, .per_layer = 3}, moue::linear_router(1),
                                        moue::switch_loss{.weight = 0.5}});
  if (name == "told")
    return moue::erase<S>(moue::mixture{expert, moue::shared_pool{.depth = 1, .pool = 3},
                                        moue::router{told{}, moue::top_k{2}, moue::softmax_then_select{}}});
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
