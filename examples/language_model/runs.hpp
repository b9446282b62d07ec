// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Many runs side by side.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "progress.hpp"
#include "trainer.hpp"

namespace language_model {

struct run_result {
  run_config config;
  model_size size;
  evaluation held_out;
  std::vector<double> losses;  ///< training loss of each step, bits per byte
  double seconds = 0;
};

/// A run was stopped, by Ctrl-C or another signal, before it ended.
struct stopped : std::runtime_error {
  stopped() : std::runtime_error("interrupted") {}
};

inline run_result run_once(const run_config& config, const corpus& text, progress& shown) {
  const auto start = std::chrono::steady_clock::now();
  return with_mixture(config, [&](const auto& mixture) {
    trainer run(mixture, config, text);
    run_result result{config, run.size(), {}, {}, 0};
    while (!run.done()) {
      if (interrupted) throw stopped();
      result.losses.push_back(run.advance());
      shown.report(result.losses.back());
    }
    result.held_out = run.evaluate();
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
  });
}

/// Calls `work(i)` for every job, `threads` at a time. Throws the first failure of any, after which none is begun.
template <class F>
void side_by_side(std::size_t jobs, std::size_t threads, const F& work) {
  std::atomic<std::size_t> next = 0;
  std::exception_ptr failure;
  std::mutex failing;
  const auto help = [&] {
    for (std::size_t i = next++; i < jobs; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(failing);
        if (!failure) failure = std::current_exception();
        next = jobs;
      }
    }
  };
  std::vector<std::thread> pool;
  for (std::size_t i = 1; i < std::min(threads, jobs); ++i) pool.emplace_back(help);
  help();
  for (auto& thread : pool) thread.join();
  if (failure) std::rethrow_exception(failure);
}

/// Results in the order of `configs`, the same for any number of threads. Throws the first failure of any run.
inline std::vector<run_result> run_all(const std::vector<run_config>& configs, const corpus& text,
                                       std::size_t threads) {
  std::int64_t steps = 0;
  for (const auto& config : configs) steps += config.steps;
  progress shown("step of " + std::to_string(configs.size()) + " runs", 0, steps, shape{}.tokens());
  std::vector<run_result> results(configs.size());
  side_by_side(configs.size(), threads, [&](std::size_t i) { results[i] = run_once(configs[i], text, shown); });
  return results;
}

}  // namespace language_model
