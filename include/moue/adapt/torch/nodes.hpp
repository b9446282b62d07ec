// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The autograd nodes of a trip.
///
///     weights --link--> layer --link--> layer ... --link--> state, balance
///                x --^    \--> y
///
/// An empty tensor, the link, threads them. So torch visits what reads the trip's end first, then all layers in reverse,
/// and the weights last, each once; and gradients of weights are summed by the library and handed over once.

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moue/adapt/torch/state.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// The state of a trip whose layers have all run, and what its end says: no workspace.
template <Storage S>
struct torch_trip_end {
  c10::intrusive_ptr<torch_trip_state<S>> state;
  at::Tensor link;
  index_t reached = 0;
};

/// Layers that ran after the end was read change what it should have said.
template <Storage S>
void check_end(const torch_trip_state<S>& state, index_t reached, const char* what) {
  require(
      state.stood.reached == reached, in_torch,
      [&] {
        return std::string(what) + " was asked for before layer " + std::to_string(reached) + " ran, which then did";
      },
      "ask for it after the last layer's forward");
}

template <Storage S>
struct torch_nodes {
  using C = compute_t<S>;
  using state_type = torch_trip_state<S>;
  using state_ptr = c10::intrusive_ptr<state_type>;
  using list = torch::autograd::variable_list;
  using context = torch::autograd::AutogradContext;

  static at::Tensor link(const state_type& state) { return empty_tensor({0}, torch_type<S>, state.device); }
  static void keep(context* ctx, const state_ptr& state) {
    ctx->set_materialize_grads(false);
    ctx->saved_data["trip"] = at::IValue::make_capsule(state);
  }
  static state_ptr kept(context* ctx) {
    return c10::static_intrusive_pointer_cast<state_type>(ctx->saved_data["trip"].toCapsule());
  }

  /// Where the gradients of all weights come together, and that of the first depth state, if one was given: the last of
  /// `inputs`.
  struct weights : torch::autograd::Function<weights> {
    static at::Tensor forward(context* ctx, at::TensorList, const state_ptr& state) {
      keep(ctx, state);
      return link(*state);
    }
    static list backward(context* ctx, list) {
      const auto state = kept(ctx);
      const auto tensors = state->weights.size();
      list result(tensors + (state->has_state_in ? 1 : 0) + 1);
      if (state->back == nullptr || !state->back->sums) return result;
      auto& way = *state->back;
      std::ranges::copy(way.sums->results(), result.begin());
      if (state->has_state_in) result[tensors] = way.dstate_in;
      way.sums.reset();
      return result;
    }
  };

  struct layer : torch::autograd::Function<layer> {
    static list forward(context* ctx, const at::Tensor& x, const at::Tensor&, const state_ptr& state,
                        const torch_run<S>& run, int64_t which) {
      keep(ctx, state);
      ctx->saved_data["layer"] = which;
      ctx->saved_data["shape"] = x.sizes();
      auto y = run_forward(*state, run, which, x);
      state->stood = run.pass->position();
      ctx->save_for_backward({run.bytes});
      return {std::move(y), link(*state)};
    }
    static list backward(context* ctx, list dy) {
      const auto state = kept(ctx);
      const auto which = static_cast<index_t>(ctx->saved_data["layer"].toInt());
      auto& pass = state->ready(which, [&] { return ctx->get_saved_variables()[0]; });
      const index_t width = state->model->width();
      const auto dx = empty_tensor(ctx->saved_data["shape"].toIntVector(), torch_type<S>, state->device);
      at::Tensor kept_dy;
      const auto given = dy[0].defined() ? dy[0] : at::zeros_like(dx);
      pass.backward(which, rows_of<S>("the gradient of y", given, width, state->device, kept_dy),
                    all_rows<S>(dx, width), state->back->sums->into);
      state->leave(which);
      return {dx, {}, {}, {}, {}};
    }
  };
  /// What the layer computes.
  static at::Tensor run_forward(const state_type& state, const torch_run<S>& run, int64_t which, const at::Tensor& x) {
    const index_t width = state.model->width();
    at::Tensor kept_x;
    const auto rows = rows_of<S>("x", x, width, state.device, kept_x);
    const auto y = empty_tensor(x.sizes(), torch_type<S>, state.device);
    run.pass->forward(static_cast<index_t>(which), rows, all_rows<S>(y, width));
    return y;
  }

  /// The depth state behind the last layer that ran.
  struct state_out : torch::autograd::Function<state_out> {
    static at::Tensor forward(context* ctx, const at::Tensor&, const state_ptr& state, const at::Tensor& numbers) {
      keep(ctx, state);
      ctx->saved_data["reached"] = static_cast<int64_t>(state->stood.reached);
      return numbers.detach();
    }
    static list backward(context* ctx, list gradient) {
      const auto state = kept(ctx);
      if (gradient[0].defined()) {
        check_end(*state, static_cast<index_t>(ctx->saved_data["reached"].toInt()), "the depth state");
        auto& sum = state->on_the_way().dstate;
        sum = sum.defined() ? sum + gradient[0] : gradient[0];
      }
      return {{}, {}, {}};
    }
  };

  /// The balancing loss of the layers that ran in all `ends`, whose links come first.
  struct balance : torch::autograd::Function<balance> {
    struct saved : torch::CustomClassHolder {
      std::vector<state_ptr> states;
      std::vector<index_t> reached;
      std::shared_ptr<const routing_counts<C>> counts;
    };
    static at::Tensor forward(context* ctx, at::TensorList, const std::vector<torch_trip_end<S>>& ends,
                              const std::shared_ptr<const routing_counts<C>>& counts, C value) {
      auto all = c10::make_intrusive<saved>();
      for (const auto& end : ends) {
        all->states.push_back(end.state);
        all->reached.push_back(end.reached);
      }
      all->counts = counts;
      ctx->set_materialize_grads(false);
      ctx->saved_data["saved"] = at::IValue::make_capsule(std::move(all));
      return at::full({}, static_cast<double>(value),
                      at::TensorOptions().dtype(torch_type<C>).device(ends.front().state->device));
    }
    static list backward(context* ctx, list gradient) {
      const auto all = c10::static_intrusive_pointer_cast<saved>(ctx->saved_data["saved"].toCapsule());
      if (gradient[0].defined())
        for (std::size_t i = 0; i < all->states.size(); ++i) {
          check_end(*all->states[i], all->reached[i], "the balancing loss");
          auto& way = all->states[i]->on_the_way();
          require(
              way.counts == nullptr || *way.counts == *all->counts, in_torch,
              [] { return std::string("two balancing losses of a trip count different layers"); },
              "take one for all trips together, or one for each");
          way.counts = all->counts;
          way.scale += gradient[0].template item<C>();
        }
      return list(all->states.size() + 3);
    }
  };
};

}  // namespace detail
}  // namespace moue::inline v0_1
