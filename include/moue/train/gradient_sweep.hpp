// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Resetting and clipping of gradients that lie in the memory of a backend: a few launches, however many tensors there are.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "moue/backend.hpp"
#include "moue/error.hpp"
#include "moue/executor/rows.hpp"
#include "moue/gradients.hpp"
#include "moue/train/sweep.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// Which tensors hold numbers.
template <class C>
struct live_gradients {
  vector_view<C* const> tensors;  // null: not wanted
  vector_view<const std::uint8_t> marks;

  /// Null if it holds none.
  MOUE_HD C* get(index_t i) const { return marks[i] != 0 ? tensors[i] : nullptr; }
};

/// Zeros everywhere, or where there are no numbers.
template <class C>
struct zero_gradients {
  live_gradients<C> live;
  bool everywhere;

  struct part {
    C* data;
    MOUE_HD explicit operator bool() const { return data != nullptr; }
    MOUE_HD void operator()(index_t j) const { data[j] = C(0); }
  };
  MOUE_HD part of(index_t i) const { return {everywhere || live.marks[i] == 0 ? live.tensors[i] : nullptr}; }
};

/// How much to scale gradients for a norm of at most `most`: not at all if theirs is not finite.
template <class Sum>
struct clip_factor {
  const Sum* norm;
  double most;
  MOUE_HD double get() const { return is_finite(*norm) && *norm > most ? static_cast<double>(most / *norm) : 1.0; }
};

template <class C, class Sum>
struct scale_live {
  live_gradients<C> live;
  clip_factor<Sum> clip;

  struct part {
    C* data;
    C factor;
    MOUE_HD explicit operator bool() const { return data != nullptr; }
    MOUE_HD void operator()(index_t j) const { data[j] *= factor; }
  };
  MOUE_HD part of(index_t i) const {
    const double factor = clip.get();
    return {factor != 1 ? live.get(i) : nullptr, static_cast<C>(factor)};
  }
};

/// sums[block * lanes + lane] = the squares that a lane meets in the runs of a block.
template <class C, class Sum>
struct square_sums {
  static constexpr index_t block = 16;  // runs: a lane adds up to 128 squares

  live_gradients<C> live;
  vector_view<const tensor_run> runs;
  Sum* sums;

  MOUE_HD void operator()(index_t at, index_t lane) const {
    Sum sum = Sum(0);
    for (index_t i = at * block; i < (at + 1) * block && i < runs.size; ++i) {
      const tensor_run run = runs[i];
      const C* const g = live.get(run.tensor);
      if (g == nullptr) continue;
      run.each(lane, [&](index_t j) { sum += static_cast<Sum>(g[j]) * static_cast<Sum>(g[j]); });
    }
    sums[at * tensor_run::lanes + lane] = sum;
  }
};

/// sums[i] += sums[i + few], sums[i + 2 few], ..., for i < few, in that order.
template <class Sum>
struct fold_sums {
  Sum* sums;
  index_t many, few;
  MOUE_HD void operator()(index_t i) const {
    Sum sum = sums[i];
    for (index_t j = i + few; j < many; j += few) sum += sums[j];
    sums[i] = sum;
  }
};

template <class Sum>
struct take_root {
  const Sum* sum;
  Sum* norm;
  MOUE_HD void operator()(index_t) const {
    using std::sqrt;
    *norm = sum != nullptr ? sqrt(*sum) : Sum(0);
  }
};

}  // namespace detail

/// What training does to all gradients between `backward` and the next batch, in the memory of a backend. Nothing waits or
/// allocates, so a graph of it can be captured. It works on the gradients it was made with, wherever their object moves.
template <class C>
class gradient_sweep {
 public:
  /// At least double: squares of large gradients are no floats.
  using sum_type = std::common_type_t<C, double>;

  /// For gradients in the memory of `backend`; works in `memory`, which lies there as well and has `workspace_bytes`.
  template <class B>
  gradient_sweep(const B& backend, gradients<C>& grads, workspace& memory)
      : live_{{}, grads.marks()}, marks_(grads.marks()) {
    const auto& layout = grads.layout();
    const auto there = detail::carve(memory, [&](arena& cursor) { return parts(cursor, layout); });
    std::vector<C*> tensors;
    for (index_t i = 0; i < layout.tensors(); ++i) tensors.push_back(grads[i].data);
    const auto runs = detail::list_runs(layout);
    backend.upload(std::span<C* const>(tensors), there.tensors.data);
    backend.upload(std::span<const detail::tensor_run>(runs), there.runs.data);
    live_.tensors = there.tensors;
    runs_ = there.runs;
    sums_ = there.sums;
    norm_ = there.norm;
  }
  /// Bytes of memory that it takes: about a sixtieth of what the gradients do.
  static std::size_t workspace_bytes(const parameter_layout& layout) {
    arena counter;
    parts(counter, layout);
    return counter.bytes();
  }

  /// What the members of `gradients` do: nothing is live any more;
  template <class Ops>
  void reset(const Ops& ops) const {
    ops.each_row(marks_.size, detail::clear_entry<std::uint8_t>{marks_});
  }
  /// every tensor is zero and none is live;
  template <class Ops>
  void zero(const Ops& ops) const {
    detail::sweep(ops, runs_, detail::zero_gradients<C>{live_, true});
    reset(ops);
  }
  /// zeros in every tensor that is wanted but not live.
  template <class Ops>
  void finish(const Ops& ops) const {
    detail::sweep(ops, runs_, detail::zero_gradients<C>{live_, false});
  }

  /// The Euclidean norm [1] of all live tensors together, in the backend's memory until the next call. The order of the
  /// sum depends on the layout alone. NaN or infinite if a gradient is.
  template <class Ops>
  vector_view<const sum_type> norm(const Ops& ops) const {
    index_t many = sums_.size;
    ops.each_element(many / detail::tensor_run::lanes, detail::tensor_run::lanes,
                     detail::square_sums<C, sum_type>{live_, runs_, sums_.data});
    for (const index_t few : {4096, 64, 1})
      if (many > few) {
        ops.each_row(few, detail::fold_sums<sum_type>{sums_.data, many, few});
        many = few;
      }
    ops.each_row(1, detail::take_root<sum_type>{many > 0 ? sums_.data : nullptr, norm_.data});
    return norm_;
  }

  /// Scales the gradients down so that their norm is at most `max_norm`, and returns the norm they had. Gradients whose
  /// norm is not finite are left as they are: leave that step out, by a learning rate that is not finite either.
  template <class Ops>
  vector_view<const sum_type> clip(const Ops& ops, double max_norm) const {
    detail::require(
        max_norm > 0, "gradient_sweep", [&] { return "max_norm is " + std::to_string(max_norm); },
        "give a positive norm");
    norm(ops);
    detail::sweep(ops, runs_, detail::scale_live<C, sum_type>{live_, {norm_.data, max_norm}});
    return norm_;
  }

 private:
  struct pieces {
    vector_view<C*> tensors;
    vector_view<detail::tensor_run> runs;
    vector_view<sum_type> sums, norm;
  };
  static pieces parts(arena& memory, const parameter_layout& layout) {
    constexpr index_t block = detail::square_sums<C, sum_type>::block;
    const index_t runs = detail::count_runs(layout);
    return {memory.take<C*>(layout.tensors(), "addresses"), memory.take<detail::tensor_run>(runs, "runs of elements"),
            memory.take<sum_type>((runs + block - 1) / block * detail::tensor_run::lanes, "sums of squares"),
            memory.take<sum_type>(1, "norm")};
  }

  detail::live_gradients<C> live_;
  vector_view<const detail::tensor_run> runs_;
  vector_view<sum_type> sums_, norm_;
  vector_view<std::uint8_t> marks_;
};

}  // namespace moue::inline v0_1
