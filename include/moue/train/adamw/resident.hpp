// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// AdamW where weights, gradients, marks and all that it remembers lie in the memory of a backend.

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "moue/backend.hpp"
#include "moue/error.hpp"
#include "moue/gradients.hpp"
#include "moue/train/adamw/rule.hpp"
#include "moue/train/sweep.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1::detail {

/// Where everything about a tensor lies.
template <class S>
struct adamw_tensor {
  using C = compute_t<S>;
  S* weight = nullptr;
  C* master = nullptr;          // the weight itself, unless it is stored in a narrower type
  const C* gradient = nullptr;  // null: not wanted
  C* first = nullptr;
  C* second = nullptr;
  bool decayed = false;
};

/// What a step is about to do to a tensor.
template <class C>
struct adamw_due {
  adamw_step<C> step = {};
  bool due = false;
  bool live = false;  // else the gradient is zero
};

/// A learning rate, or where one lies in the backend's memory.
struct rate_source {
  double value = 0;
  const double* place = nullptr;

  MOUE_HD double get() const { return place != nullptr ? *place : value; }
};

/// Counts the tensors that are due and finds what each needs; a row is a tensor.
template <class S>
struct adamw_count {
  using C = compute_t<S>;
  adamw_options options;
  rate_source rate;
  vector_view<const adamw_tensor<S>> tensors;
  vector_view<const std::uint8_t> marks;
  vector_view<std::int64_t> steps;
  vector_view<adamw_due<C>> due;

  MOUE_HD void operator()(index_t i) const {
    const auto& tensor = tensors[i];
    const double learning_rate = rate.get();
    due[i].live = marks[i] != 0;
    due[i].due = tensor.gradient != nullptr && (due[i].live || !options.skip_untouched) && is_finite(learning_rate) &&
                 learning_rate >= 0;
    if (due[i].due) due[i].step = adamw_step<C>::of(options, learning_rate, ++steps[i], tensor.decayed);
  }
};

template <class S>
struct adamw_sweep {
  using C = compute_t<S>;
  adamw_rule<C> rule;
  vector_view<const adamw_tensor<S>> tensors;
  vector_view<const adamw_due<C>> due;

  struct part {
    adamw_rule<C> rule;
    adamw_tensor<S> at;
    adamw_due<C> now;

    MOUE_HD explicit operator bool() const { return now.due; }
    MOUE_HD void operator()(index_t j) const {
      const C w = rule(now.step, at.master[j], now.live ? at.gradient[j] : C(0), at.first[j], at.second[j]);
      at.master[j] = w;
      if constexpr (!std::is_same_v<S, C>) at.weight[j] = S(w);
    }
  };
  MOUE_HD part of(index_t tensor) const { return {rule, tensors[tensor], due[tensor]}; }
};

/// Moments of zero, and masters that are the weights.
template <class S>
struct adamw_fill {
  vector_view<const adamw_tensor<S>> tensors;
  bool moments;

  struct part {
    adamw_tensor<S> at;
    bool moments;
    MOUE_HD explicit operator bool() const { return true; }
    MOUE_HD void operator()(index_t j) const {
      using C = compute_t<S>;
      if constexpr (!std::is_same_v<S, C>) at.master[j] = static_cast<C>(at.weight[j]);
      if (moments) at.first[j] = at.second[j] = C(0);
    }
  };
  MOUE_HD part of(index_t tensor) const { return {tensors[tensor], moments}; }
};

struct clear_count {
  vector_view<std::int64_t> counts;
  MOUE_HD void operator()(index_t i) const { counts[i] = 0; }
};

/// All of it as pieces of external memory. Without memory it only counts.
template <class S>
struct adamw_memory {
  using C = compute_t<S>;
  static constexpr bool has_master = !std::is_same_v<S, C>;

  std::vector<C*> first, second, master;
  vector_view<std::int64_t> steps;
  vector_view<adamw_due<C>> due;
  vector_view<adamw_tensor<S>> tensors;
  vector_view<tensor_run> runs;

  adamw_memory(arena& memory, const parameter_layout& layout)
      : first(take_tensors<C>(memory, layout, "first moments")),
        second(take_tensors<C>(memory, layout, "second moments")),
        steps(memory.take<std::int64_t>(layout.tensors(), "step counts")),
        due(memory.take<adamw_due<C>>(layout.tensors(), "coefficients")),
        tensors(memory.take<adamw_tensor<S>>(layout.tensors(), "addresses")),
        runs(memory.take<tensor_run>(count_runs(layout), "runs of elements")) {
    if constexpr (has_master) master = take_tensors<C>(memory, layout, "master weights");
  }
  static adamw_memory in(const workspace& memory, const parameter_layout& layout) {
    return carve(memory, [&](arena& cursor) { return adamw_memory(cursor, layout); });
  }
};

/// A step is two launches, whatever the number of tensors, and reads nothing on the host but addresses.
template <class S>
class resident_adamw {
 public:
  using C = compute_t<S>;

  template <class B>
  resident_adamw(const B& backend, parameters<S>& weights, const gradients<C>& grads, const adamw_memory<S>& memory)
      : tensors_(memory.tensors), runs_(memory.runs), steps_(memory.steps), due_(memory.due) {
    const auto& layout = weights.layout();
    for (index_t i = 0; i < layout.tensors(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      C* master = nullptr;
      if constexpr (adamw_memory<S>::has_master)
        master = memory.master[at];
      else
        master = weights[i].data;
      sent_.push_back({weights[i].data, master, grads[i].data, memory.first[at], memory.second[at], layout[i].decayed});
    }
    const auto runs = list_runs(layout);
    backend.upload(std::span<const adamw_tensor<S>>(sent_), memory.tensors.data);
    backend.upload(std::span<const tensor_run>(runs), memory.runs.data);
    const auto ops = backend.operations(matrix_view<C>{});
    ops.each_row(steps_.size, clear_count{steps_});
    sweep(ops, runs_, adamw_fill<S>{tensors_, true});
  }

  template <class Ops>
  void step(const Ops& ops, const adamw_options& options, const parameters<S>& weights, const gradients<C>& grads,
            const rate_source& rate) const {
    check_places("weights", weights, [](const auto& sent) { return sent.weight; });
    check_places("gradients", grads, [](const auto& sent) { return sent.gradient; });
    const vector_view<const std::uint8_t> marks = grads.marks();
    ops.each_row(tensors_.size, adamw_count<S>{options, rate, tensors_, marks, steps_, due_});
    sweep(ops, runs_, adamw_sweep<S>{adamw_rule<C>(options), tensors_, due_});
  }

  template <class Ops>
  void adopt(const Ops& ops, const parameters<S>& weights) const {
    check_places("weights", weights, [](const auto& sent) { return sent.weight; });
    if constexpr (adamw_memory<S>::has_master) sweep(ops, runs_, adamw_fill<S>{tensors_, false});
  }

 private:
  template <class Values, class Sent>
  void check_places(std::string_view what, const Values& values, const Sent& sent) const {
    for (index_t i = 0; i < values.layout().tensors(); ++i)
      require(
          values[i].data == sent(sent_[static_cast<std::size_t>(i)]), "adamw",
          [&] { return "the " + std::string(what) + " lie elsewhere than those it was made with"; },
          "make an optimiser in external memory for each set of weights and gradients");
  }

  std::vector<adamw_tensor<S>> sent_;
  vector_view<const adamw_tensor<S>> tensors_;
  vector_view<const tensor_run> runs_;
  vector_view<std::int64_t> steps_;
  vector_view<adamw_due<C>> due_;
};

}  // namespace moue::inline v0_1::detail
