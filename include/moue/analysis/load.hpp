// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What routing did to the experts: how evenly a batch was spread over them, and how much layers have in common. Plain
/// functions over what a pass holds anyway; nothing is gathered for them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "moue/balance.hpp"
#include "moue/error.hpp"
#include "moue/pass/statistics.hpp"
#include "moue/routing.hpp"
#include "moue/routing_counts.hpp"
#include "moue/topology/connectivity.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// How evenly load is spread. Experts that no layer chooses from (exposure 0, such as always-on ones) do not count.
/// With F_e the share of expert e summed over layers and c_e its exposure:
struct load_report {
  double raw = 0;                      ///< max F_e / mean F_e; 1 is even; 0 if nothing was routed
  double corrected = 0;                ///< max (F_e / c_e) / mean (F_e / c_e): load in proportion to reach reads 1
  std::vector<index_t> dead;           ///< experts with c_e > 0 and F_e = 0, ascending
  std::vector<double> layer_max_mean;  ///< per layer, max f_{l,e} / mean f_{l,e} over its open candidates
  std::vector<double> layer_entropy;   ///< per layer, -sum f log f in nats; log(open candidates) is even
};

namespace detail {

class max_over_mean {
 public:
  void add(double value) {
    most_ = (std::max)(most_, value);
    sum_ += value;
    ++count_;
  }
  double ratio() const { return sum_ > 0 ? most_ * static_cast<double>(count_) / sum_ : 0; }

 private:
  double most_ = 0;
  double sum_ = 0;
  index_t count_ = 0;
};

}  // namespace detail

/// Summarises the statistics of one pass (`pass::statistics`), or of several added up.
template <class C>
load_report summarise_load(const depth_statistics<C>& s) {
  load_report report;
  detail::max_over_mean raw, corrected;
  for (index_t e = 0; e < s.experts; ++e) {
    const auto exposure = static_cast<double>(s.exposure[e]);
    const auto load = static_cast<double>(s.expert_share[e]);
    if (exposure <= 0) continue;
    raw.add(load);
    corrected.add(load / exposure);
    if (load == 0) report.dead.push_back(e);
  }
  report.raw = raw.ratio();
  report.corrected = corrected.ratio();
  for (index_t layer = 0; layer < s.layers; ++layer) {
    detail::max_over_mean shares;
    double entropy = 0;
    for (index_t i = s.offsets[layer]; i < s.offsets[layer + 1]; ++i) {
      if (s.open[i] == 0) continue;
      const auto f = static_cast<double>(s.share[i]);
      shares.add(f);
      if (f > 0) entropy -= f * std::log(f);
    }
    report.layer_max_mean.push_back(shares.ratio());
    report.layer_entropy.push_back(entropy);
  }
  return report;
}

/// The same of counts, which may be sums over batches, ranges of layers and ranks, where statistics cannot be added up.
/// `connections` are those of the mixture. Throws if the counts are of another one.
template <class C>
load_report summarise_load(routing_counts<C> counts, const connectivity& connections) {
  const auto offsets = connections.candidate_offsets();
  const auto candidates = connections.all_candidates();
  const auto layers = static_cast<std::size_t>(connections.layers()), columns = candidates.size();
  const auto experts = static_cast<std::size_t>(connections.experts());
  detail::require(
      counts.tokens.size() == layers && counts.demand.size() == columns && counts.load.size() == columns &&
          counts.probability.size() == columns && counts.open.size() == columns,
      "summarise_load",
      [&] {
        return "counts of " + std::to_string(counts.tokens.size()) + " layers with " +
               std::to_string(counts.demand.size()) + " columns were given for " + std::to_string(layers) + " with " +
               std::to_string(columns);
      },
      "give the counts of a pass and the connections of its mixture");
  const auto view = [](auto& v) {
    using element = std::remove_pointer_t<decltype(v.data())>;
    return vector_view<element>{v.data(), static_cast<index_t>(v.size())};
  };
  std::vector<C> exposure(experts), share(columns), probability(columns), of_expert(experts), probable(experts);
  const detail::form_statistics<C> form{
      view(offsets),
      view(candidates),
      {view(counts.tokens),
       view(counts.demand),
       view(counts.load),
       {},
       view(counts.probability),
       view(counts.open),
       {}},
      {view(exposure), view(share), view(probability), view(of_expert), view(probable)}};
  form(0);
  return summarise_load(form.statistics(form.most_tokens()));
}

/// A square table over pairs of layers.
struct layer_matrix {
  index_t layers = 0;          ///< of the mixture
  std::vector<double> values;  ///< [layers, layers]

  /// The entry of layers `from` and `to`.
  double operator()(index_t from, index_t to) const { return values[static_cast<std::size_t>(from * layers + to)]; }
};

/// Entry (a, b): of the experts that a token was routed to at layer a, the share that it was also routed to at layer b;
/// the mean over tokens that were routed anywhere at a. Entries (l, l + 1) are the reuse rate of MoRE (arXiv
/// 2609.18176), for which uniform routing over one pool of n gives k / n. Always-on experts do not count, nor entries
/// that a caller added.
///
/// Over the layers that have run, in order: row 0 is the first layer of the pass. Several passes are ranges of layers,
/// in order, that took the same tokens, and count as one. Takes `pass` and `any_pass` after the last `forward`, in
/// training; throws in inference, where only one layer's assignments are there. O(layers² tokens k²).
template <class PassT, class... More>
layer_matrix reuse_matrix(const PassT& pass, const More&... ranges_behind) {
  using routing_type = decltype(pass.assignments(0));
  std::vector<routing_type> routings;
  const auto take = [&](const auto& range) {
    detail::require(
        range.tokens() == pass.tokens(), "reuse_matrix",
        [&] {
          return "ranges of " + std::to_string(pass.tokens()) + " and " + std::to_string(range.tokens()) +
                 " tokens were given";
        },
        "give ranges of layers that the same batch ran through");
    for (index_t layer = range.first_layer(); layer < range.position().reached; ++layer)
      routings.push_back(range.assignments(layer));
  };
  take(pass);
  (take(ranges_behind), ...);
  const auto layers = std::ssize(routings);
  layer_matrix result{layers, std::vector<double>(static_cast<std::size_t>(layers * layers), 0)};
  const auto routed = [](const routing_type& r, index_t i) { return r.expert[i] >= 0 && r.column[i] >= 0; };
  auto value = result.values.begin();
  for (const routing_type& from : routings)
    for (const routing_type& to : routings) {
      double sum = 0;
      index_t tokens = 0;
      for (index_t t = 0; t < pass.tokens(); ++t) {
        index_t taken = 0, common = 0;
        for (index_t i = from.offsets[t]; i < from.offsets[t + 1]; ++i) {
          if (!routed(from, i)) continue;
          ++taken;
          for (index_t j = to.offsets[t]; j < to.offsets[t + 1]; ++j)
            if (routed(to, j) && to.expert[j] == from.expert[i]) {
              ++common;
              break;
            }
        }
        if (taken == 0) continue;
        sum += static_cast<double>(common) / static_cast<double>(taken);
        ++tokens;
      }
      *value++ = tokens > 0 ? sum / static_cast<double>(tokens) : 0;
    }
  return result;
}

}  // namespace moue::inline v0_1
