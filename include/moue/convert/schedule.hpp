// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// When foreign connections open: the bias on their logits as a function of the training step.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "moue/error.hpp"
#include "moue/parameter.hpp"

namespace moue::inline v0_1::convert {

/// The bias of a closed connection.
inline constexpr double closed = -std::numeric_limits<double>::infinity();

/// One foreign candidate of one layer.
struct connection {
  index_t layer = 0;  ///< of the mixture
  index_t rank = 0;   ///< its place among the layer's foreign candidates
  index_t count = 1;  ///< how many those are
};

/// The opening bias of every foreign connection at every step, as a pure function:
///
///     double operator()(index_t step, const connection& c) const;  // `closed`, or a finite bias
///     index_t last_step() const;                                 // from here on nothing changes
///     double end() const;                                        // the bias of every connection from then on
///
/// Laws: the number of open connections never falls, and no bias of a connection that stays open does; every connection
/// has bias `end()` from `last_step()` on.
template <class P>
concept OpeningSchedule = std::copyable<P> && requires(const P schedule, index_t step, const connection& c) {
  { schedule(step, c) } -> std::convertible_to<double>;
  { schedule.last_step() } -> std::convertible_to<index_t>;
  { schedule.end() } -> std::convertible_to<double>;
};

namespace detail {

/// How far `step` is from `first` to `last`: 0 up to `first`, 1 from `last` on, also where the two are one step.
inline double progress(index_t step, index_t first, index_t last) {
  if (step >= last) return 1;
  if (step <= first) return 0;
  return static_cast<double>(step - first) / static_cast<double>(last - first);
}

}  // namespace detail

/// All connections at once: closed before step `first`, then the bias rises linearly from `from` to `to`, which it keeps
/// from step `last` on.
struct annealed_opening {
  index_t first = 0;    ///< step at which connections open
  index_t last = 1000;  ///< step from which nothing changes
  double from = -8;     ///< bias at step `first`
  double to = -3;       ///< bias from step `last` on

  double operator()(index_t step, const connection&) const {
    return step < first ? closed : from + (to - from) * detail::progress(step, first, last);
  }
  index_t last_step() const { return (std::max)(first, last); }
  double end() const { return to; }
};

/// Which candidates of a growing pool are open.
enum class growth {
  ranked,   ///< those of lowest rank: what is open stays open
  sampled,  ///< a set drawn anew for every step and layer, as in ReXMoE's progressive scaling
};

/// The number of open connections of a layer grows linearly: none up to step `first`, floor of the share in between, all
/// from step `last` on; each open one has bias `to`. After ReXMoE's progressive scaling routing (arXiv 2510.17483), which
/// draws the open set at random in every step.
struct growing_pool {
  index_t first = 0;              ///< the last step at which all are closed
  index_t last = 1000;            ///< step from which all are open
  double to = 0;                  ///< bias of an open connection
  growth order = growth::ranked;  ///< which open first
  std::uint64_t seed = 0;         ///< of the sets that are drawn

  /// Open connections of a layer that has `count`.
  index_t open(index_t step, index_t count) const {
    if (step >= last) return count;
    return step <= first ? 0 : (step - first) * count / (last - first);
  }
  /// O(count) if sampled.
  double operator()(index_t step, const connection& c) const {
    index_t place = c.rank;
    if (order == growth::sampled) {
      place = 0;
      const auto mine = draw(step, c.layer, c.rank);
      for (index_t other = 0; other < c.count; ++other) {
        const auto theirs = draw(step, c.layer, other);
        if (theirs < mine || (theirs == mine && other < c.rank)) ++place;
      }
    }
    return place < open(step, c.count) ? to : closed;
  }
  index_t last_step() const { return (std::max)(first, last); }
  double end() const { return to; }

 private:
  std::uint64_t draw(index_t step, index_t layer, index_t rank) const {
    std::uint64_t key = moue::detail::mix(seed);
    for (const index_t part : {step, layer, rank}) key = moue::detail::mix(key ^ static_cast<std::uint64_t>(part));
    return key;
  }
};

/// All connections fade in: exp(bias) = exp(to) s with s = (1 - cos(pi progress)) / 2, from closed at step `first` to
/// bias `to` at step `last`. A candidate's odds are scaled by s, without the jump of a bias that starts finite. The cosine
/// ramp by which UniPool-lock (arXiv 2605.06665) fades connections out, run backwards.
struct faded_opening {
  index_t first = 0;    ///< the last step at which all are closed
  index_t last = 1000;  ///< step from which nothing changes
  double to = 0;        ///< bias from step `last` on

  double operator()(index_t step, const connection&) const {
    const double progress = detail::progress(step, first, last);
    if (progress <= 0) return closed;
    if (progress >= 1) return to;
    constexpr double pi = 3.141592653589793238463;
    const double half = std::sin(pi / 2 * progress);  // s = half², which small progress does not cancel out
    return to + 2 * std::log(half);
  }
  index_t last_step() const { return (std::max)(first, last); }
  double end() const { return to; }
};

/// Calls `f(layer, opening)` with every layer's opening biases [1, foreign candidates].
template <Storage S, class F>
void each_opening(parameters<S>& weights, F&& f) {
  constexpr std::string_view name = ".router.opening";
  bool any = false;
  for (index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& info = weights.layout()[i];
    if (info.layer < 0 || !std::string_view(info.name).ends_with(name)) continue;
    any = true;
    f(info.layer, weights[i].row(0));
  }
  moue::detail::require(
      any, "convert", [] { return std::string("no layer has opening biases"); },
      "give the weights of a converted mixture (extended_score)");
}

/// Sets every opening bias to what `schedule` says for `step`. Biases are set, not added to: what a layer closed for good
/// (`keep_open`) would open again.
template <OpeningSchedule ScheduleT, Storage S>
void apply(const ScheduleT& schedule, index_t step, parameters<S>& weights) {
  each_opening(weights, [&](index_t layer, vector_view<S> opening) {
    for (index_t rank = 0; rank < opening.size; ++rank)
      opening[rank] = S(static_cast<compute_t<S>>(schedule(step, connection{layer, rank, opening.size})));
  });
}

/// Closes all but the `count` foreign connections of every layer that `use(layer, rank)` rates highest; lower ranks win
/// ties. It opens nothing. After a pool that all layers could reach this leaves each the ones it learnt to use, such as by
/// the shares of a pass, `s.share[s.offsets[layer] + plan.home + rank]`, or by a trained `foreign_bias`.
template <Storage S, class UseT>
void keep_open(parameters<S>& weights, index_t count, const UseT& use) {
  each_opening(weights, [&](index_t layer, vector_view<S> opening) {
    std::vector<index_t> ranks(static_cast<std::size_t>(opening.size));
    std::iota(ranks.begin(), ranks.end(), index_t{0});
    std::ranges::stable_sort(ranks, [&](index_t a, index_t b) { return use(layer, a) > use(layer, b); });
    for (index_t place = count; place < opening.size; ++place)
      opening[ranks[static_cast<std::size_t>(place)]] = S(static_cast<compute_t<S>>(closed));
  });
}

/// Sets the bias of every foreign connection. `set_openings(weights, closed)` gives back the source's function.
template <Storage S>
void set_openings(parameters<S>& weights, double bias) {
  each_opening(weights, [&](index_t, vector_view<S> opening) {
    for (auto& b : opening) b = S(static_cast<compute_t<S>>(bias));
  });
}

}  // namespace moue::inline v0_1::convert
