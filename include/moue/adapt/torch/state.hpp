// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the autograd nodes of one trip share, and one way back over them.

#include <torch/csrc/autograd/engine.h>
#include <torch/custom_class.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moue/adapt/torch/rows.hpp"
#include "moue/any.hpp"

namespace moue::inline v0_1 {

/// What a trip is started with.
struct torch_batch {
  int64_t tokens = 0;         ///< rows of every layer's input
  at::Tensor valid = {};      ///< [tokens] false marks padding; undefined: all valid
  at::Tensor token_ids = {};  ///< [tokens] int64, for routers that ask
  at::Tensor labels = {};     ///< [tokens] int64, for routers that ask
  at::Tensor sequences = {};  ///< [sequences + 1] int64, where each begins, for stages and losses that ask
  at::Tensor side = {};       ///< [tokens, any] float, numbers for stages and losses that ask
  at::Tensor state = {};   ///< [tokens, state_width] the depth state before `first`, such as another trip's `state()`
  int64_t first = 0;       ///< the first layer of the range that the trip runs
  int64_t count = -1;      ///< layers of the range; −1: all that follow
  batch_options how = {};  ///< step and seed, for schedules and noise
};

namespace detail {

/// A pass over memory of torch's. The pass points into the object, which stays where it is.
template <Storage S>
struct torch_run {
  at::Tensor bytes;
  parameters<S> weights;
  workspace scratch;
  std::unique_ptr<any_pass<S>> pass;

  torch_run(at::Tensor memory, parameters<S> external)
      : bytes(std::move(memory)), weights(std::move(external)), scratch(scratch_in(bytes)) {}
  torch_run(const torch_run&) = delete;
  torch_run& operator=(const torch_run&) = delete;
};

/// What the nodes of a trip share. They hold it, and it holds none of them: what it held would be a circle that torch
/// never frees. It holds no workspace either: the nodes of the layers save that as a tensor, so that whatever torch does
/// with saved tensors (free them, move them, compute them again) is done to all of a pass.
template <Storage S>
struct torch_trip_state : torch::CustomClassHolder {
  using C = compute_t<S>;

  /// One run of torch's backward over the nodes: from the first node that it visits to the end of the run.
  struct way_back {
    std::shared_ptr<const routing_counts<C>> counts;  ///< of the balancing loss that was visited
    C scale = C(0);                                   ///< the gradient of that loss
    at::Tensor dstate;                                ///< the gradient of the last depth state
    at::Tensor dstate_in;                             ///< that of the first
    std::unique_ptr<torch_run<S>> run;                ///< from the first layer that is visited to the last
    std::optional<torch_sums<C>> sums;                ///< the gradients of the weights
  };

  std::shared_ptr<const any_model<S>> model;
  std::vector<at::Tensor> weights;
  std::vector<std::uint32_t> versions;  ///< of the weights, when forward read them
  pass_options options;
  at::Device device;                              ///< of all tensors
  at::Tensor token_ids, labels, sequences, side;  ///< which the pass only views
  bool has_state_in = false;
  pass_position stood;  ///< where forward ended
  std::shared_ptr<way_back> back;

  torch_trip_state(std::shared_ptr<const any_model<S>> which, at::TensorList tensors, const torch_batch& batch)
      : model(std::move(which)),
        weights(tensors.begin(), tensors.end()),
        options{.tokens = static_cast<index_t>(batch.tokens),
                .how = at::GradMode::is_enabled() ? mode::training : mode::inference,
                .first = static_cast<index_t>(batch.first),
                .count = static_cast<index_t>(batch.count)},
        device(device_of(model->on_host(), weights)),
        token_ids(list("token_ids", batch.token_ids, device)),
        labels(list("labels", batch.labels, device)),
        sequences(list("sequences", batch.sequences, device)),
        side(batch.side.defined() ? batch.side.detach().contiguous() : batch.side),
        has_state_in(batch.state.defined()) {
    if (side.defined()) {
      check_tensor("side", side, at::kFloat, device);
      require(
          side.dim() == 2 && side.size(0) == batch.tokens, in_torch,
          [&] { return "side has shape " + c10::str(side.sizes()); }, "give [tokens, any]");
    }
    if (training())
      for (const auto& t : weights) versions.push_back(version_of(t));
  }

  bool training() const { return options.how == mode::training; }

  /// What a pass is given again when it is picked up.
  side_inputs sides() const {
    side_inputs result;
    if (token_ids.defined())
      result.token_ids = {numbers_of<const std::int64_t>(token_ids), static_cast<index_t>(token_ids.numel())};
    if (labels.defined())
      result.labels = {numbers_of<const std::int64_t>(labels), static_cast<index_t>(labels.numel())};
    if (sequences.defined())
      result.sequences = {numbers_of<const index_t>(sequences), static_cast<index_t>(sequences.numel())};
    if (side.defined())
      result.side = {numbers_of<const float>(side), static_cast<index_t>(side.size(0)),
                     static_cast<index_t>(side.size(1))};
    return result;
  }

  /// The way back at work, or a new one, which ends with torch's run whether or not that succeeds.
  way_back& on_the_way() {
    refuse_create_graph();
    if (back == nullptr) {
      back = std::make_shared<way_back>();
      auto end = std::make_shared<ending>(c10::intrusive_ptr<torch_trip_state>::reclaim_copy(this), back);
      torch::autograd::Engine::get_default_engine().queue_callback([end] { end->now(); });
    }
    return *back;
  }

  /// Makes ready for the backward of `layer`. `bytes` is asked for the workspace where none is at hand.
  template <class Bytes>
  any_pass<S>& ready(index_t layer, const Bytes& bytes) {
    auto& way = on_the_way();
    if (way.run == nullptr) {
      check_weights();
      auto position = stood;
      // What nobody armed and whose state nobody read is as if it had not run.
      if (way.counts == nullptr && !way.dstate.defined()) position.next = position.reached = layer + 1;
      way.run = std::make_unique<torch_run<S>>(bytes(), external_weights<S>(model->layout(), weights, device));
      auto& run = *way.run;
      run.pass = model->resume(run.weights, options, run.scratch, position, sides());
      const auto dstate = run.pass->dstate_out();
      if (way.dstate.defined())
        copy_state(way.dstate, dstate);
      else
        tensor_over(dstate, device).zero_();
      if (way.counts != nullptr) run.pass->arm(way.scale, *way.counts);
      if (!way.sums) way.sums.emplace(model->layout(), weights, device);
    }
    return *way.run->pass;
  }

  /// After the backward of `layer`: the workspace is let go with the first layer.
  void leave(index_t layer) {
    if (layer != options.first) return;
    if (has_state_in) back->dstate_in = tensor_over(back->run->pass->dstate_in(), device).clone();
    back->run.reset();
  }

  /// [tokens, state_width], where a pass has its own.
  void copy_state(const at::Tensor& from, const matrix_view<C>& to) const {
    check_tensor("the depth state", from, torch_type<C>, device);
    require(
        from.dim() == 2 && from.size(0) == options.tokens && from.size(1) == model->state_width(), in_torch,
        [&] { return "the depth state has shape " + c10::str(from.sizes()); },
        "give " + shape_text(options.tokens, model->state_width()) + ", such as the state() of the trip before");
    tensor_over(to, device).copy_(from.detach());
  }

 private:
  struct ending {
    c10::intrusive_ptr<torch_trip_state> state;
    std::weak_ptr<way_back> which;

    ending(c10::intrusive_ptr<torch_trip_state> s, const std::shared_ptr<way_back>& w)
        : state(std::move(s)), which(w) {}
    ending(const ending&) = delete;
    ending& operator=(const ending&) = delete;
    ~ending() { now(); }
    void now() {
      if (state->back != nullptr && state->back == which.lock()) state->back.reset();
    }
  };

  static at::Tensor list(const char* name, const at::Tensor& t, at::Device device) {
    if (!t.defined()) return t;
    check_tensor(name, t, at::kLong, device);
    return t.detach().reshape({t.numel()}).contiguous();
  }
  static std::uint32_t version_of(const at::Tensor& t) {
    return t.is_inference() ? 0 : static_cast<std::uint32_t>(t._version());
  }
  void check_weights() const {
    for (std::size_t i = 0; i < weights.size(); ++i)
      require(
          version_of(weights[i]) == versions[i], in_torch,
          [&] {
            return "'" + (*model->layout())[static_cast<index_t>(i)].name + "' was changed since forward read it";
          },
          "call backward before the optimiser's step, and forward again after it");
  }
};

}  // namespace detail
}  // namespace moue::inline v0_1
