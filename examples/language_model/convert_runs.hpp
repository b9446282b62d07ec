// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The runs of a conversion study: the source, and what becomes of it as it is and converted.

#include <chrono>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "convert_settings.hpp"
#include "moue/analysis/similarity.hpp"
#include "progress.hpp"
#include "runs.hpp"
#include "trainer.hpp"

namespace language_model {

/// Calls `f` with the plain mixture that `config` describes, balanced by the universal loss. While nothing is shared that is
/// the mean Switch loss; without correction for exposure (gamma 0) closed connections change not even its last bit.
template <class F>
auto with_source(const run_config& config, double weight, F&& f) {
  if (config.router == router_kind::linear) return f(make_mixture(config, moue::linear_score{}, 0, weight, 0));
  return f(make_mixture(config, moue::normalised_score{}, 0, weight, 0));
}

/// A trained source and what conversions ask about it.
struct source_run {
  run_config config;
  run_state state;
  std::vector<double> losses;      ///< of each step, bits per byte
  double bits_per_byte = 0;        ///< held out, at the conversion
  std::vector<double> load;        ///< [experts] shares, summed over layers and the last steps
  std::vector<double> similarity;  ///< [experts, experts] of outputs
  double seconds = 0;

  moue::index_t step() const { return state.step; }
};

/// How large the runs of a study are.
struct extent {
  shape batch = {};
  moue::index_t evaluated = 64;  ///< held-out batches
};

struct arm_result {
  model_size size;
  evaluation held_out;
  std::vector<double> losses;   ///< of the steps after the conversion
  std::vector<double> foreign;  ///< share of assignments that went to foreign experts, at each of these steps
  double seconds = 0;
};

namespace detail {

class stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

inline double checked_step(double loss, progress& shown) {
  if (interrupted) throw stopped();
  shown.report(loss);
  return loss;
}

/// Similarity of all experts' outputs for inputs that the last batch brought to the layers.
template <class Trainer>
std::vector<double> similarity_of_experts(const Trainer& run) {
  constexpr moue::index_t per_layer = 32;
  const auto& mixture = run.model.pass().model();
  matrix<float> probes(per_layer * mixture.layers(), mixture.width());
  for (moue::index_t l = 0; l < mixture.layers(); ++l) {
    const auto& input = run.model.mixture_input(l);
    for (moue::index_t i = 0; i < per_layer; ++i)
      probes.row(l * per_layer + i) = input.row(i * input.rows() / per_layer);
  }
  const auto outputs = moue::probe_outputs(mixture.experts_executor(), run.model.experts, view(std::as_const(probes)));
  return moue::output_similarity(
             mixture.backend(),
             moue::matrix_view<const float>{outputs.data(), mixture.experts(), probes.rows() * mixture.width()},
             probes.rows())
      .values;
}

/// Share of the last batch's assignments beyond the first `home` candidates of each layer.
template <class Statistics>
double foreign_share(const Statistics& statistics, moue::index_t home) {
  double sum = 0;
  for (moue::index_t l = 0; l < statistics.layers; ++l)
    for (moue::index_t i = statistics.offsets[l] + home; i < statistics.offsets[l + 1]; ++i)
      sum += static_cast<double>(statistics.share[i]);
  return sum / static_cast<double>(statistics.layers);
}

template <class Trainer>
void take_over(Trainer& run, const run_state& from, moments_kind moments) {
  if (moments == moments_kind::carry) return run.adopt(from);
  auto forgetful = from;
  forgetful.dense_optimiser = moue::adamw<float>(from.dense, optimiser_options);
  forgetful.expert_optimiser = moue::adamw<float>(from.experts, optimiser_options);
  run.adopt(std::move(forgetful));
}

/// Moves every weight of the dense part by at most a millionth of itself.
inline void nudge(moue::parameters<float>& weights) {
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
    for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
      weights[i].data[j] *= 1 + 1e-6f * static_cast<float>(j % 3 - 1);
}

}  // namespace detail

/// Trains `mixture` up to step `until` of the run that `config` describes.
template <class MixtureT>
source_run train_source(const MixtureT& mixture, const run_config& config, moue::index_t until, const corpus& text,
                        progress& shown, const extent& size = {}) {
  const detail::stopwatch watch;
  trainer run(mixture, config, text, size.batch);
  source_run result{config, run.state(), {}, 0, std::vector<double>(static_cast<std::size_t>(mixture.experts())), {},
                    0};
  constexpr moue::index_t watched = 20;
  while (run.step() < until) {
    result.losses.push_back(detail::checked_step(run.advance(), shown));
    if (run.step() + watched <= until) continue;
    const auto statistics = run.model.pass().statistics();
    for (std::size_t e = 0; e < result.load.size(); ++e)
      result.load[e] += static_cast<double>(statistics.expert_share[static_cast<moue::index_t>(e)]);
  }
  result.state = run.state();
  if (until > 0) result.similarity = detail::similarity_of_experts(run);
  result.bits_per_byte = run.evaluate(size.evaluated).bits_per_byte;
  result.seconds = watch.seconds();
  return result;
}

/// The connections that a conversion of `source` ends with, foreign candidates of the nearest layers first.
template <class MixtureT>
moue::convert::plan make_plan(const MixtureT& mixture, const source_run& source, const conversion& how) {
  using namespace moue::convert;
  const auto wires = wiring::of(mixture.topology());
  std::vector<moue::index_t> universal;
  switch (how.universal) {
    case universal_kind::all:
      universal = all_experts{}(wires);
      break;
    case universal_kind::most_used:
      universal = most_used{how.per_layer, source.load, true}(wires);
      break;
    case universal_kind::most_similar:
      universal =
          most_similar{how.per_layer, {source.similarity.data(), mixture.experts(), mixture.experts()}, true}(wires);
      break;
  }
  const auto all =
      extend(mixture.topology(), universal, topology_over(how.topology, static_cast<moue::index_t>(universal.size())));
  return ranked(all, [&](moue::index_t layer, moue::index_t e) { return -std::abs(all.home_of(e) - layer); });
}

/// Trains on to the end of the run, converted or not. `mixture` is the source's.
template <class MixtureT>
arm_result train_arm(const MixtureT& mixture, const source_run& source, const arm& what, const corpus& text,
                     progress& shown, const extent& size = {}) {
  const detail::stopwatch watch;
  const auto& config = source.config;
  const auto home = static_cast<moue::index_t>(mixture.connections().candidates(0).size());
  const auto train = [&](auto& run, const auto& before_step) {
    arm_result result{run.size(), {}, {}, {}, 0};
    while (!run.done()) {
      before_step(run.step() - source.step());
      const double rate = restarted_rate_at(run.step(), config.steps, config.warm_up, config.learning_rate,
                                            source.step(), what.next.restart);
      result.losses.push_back(detail::checked_step(run.advance(rate), shown));
      result.foreign.push_back(detail::foreign_share(run.model.pass().statistics(), home));
    }
    result.held_out = run.evaluate(size.evaluated);
    result.seconds = watch.seconds();
    return result;
  };
  if (what.what != arm::kind::converted) {
    trainer run(mixture, config, text, size.batch);
    detail::take_over(run, source.state, what.next.moments);
    if (what.what == arm::kind::nudged) detail::nudge(run.model.dense);
    return train(run, [](moue::index_t) {});
  }
  const auto plan = make_plan(mixture, source, what.how);
  const auto target = moue::convert::moe_to_moue(mixture, plan);
  trainer run(target, config, text, size.batch);
  detail::take_over(run, source.state, what.next.moments);
  with_rows(what.how, [&](const auto& rows) {
    moue::convert::fill_rows(mixture, source.state.experts, plan, rows, run.model.experts);
  });
  const opening_schedule schedule(what.how);
  return train(run, [&](moue::index_t step) { moue::convert::apply(schedule, step, run.model.experts); });
}

// The same with the mixture that the configuration describes.
inline source_run train_source(const run_config& config, moue::index_t until, const corpus& text, progress& shown) {
  return with_source(config, balance_weight,
                     [&](const auto& mixture) { return train_source(mixture, config, until, text, shown); });
}
inline arm_result train_arm(const source_run& source, const arm& what, const corpus& text, progress& shown) {
  const double weight = what.what == arm::kind::converted ? what.how.weight : balance_weight;
  return with_source(source.config, weight,
                     [&](const auto& mixture) { return train_arm(mixture, source, what, text, shown); });
}

}  // namespace language_model
