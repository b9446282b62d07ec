// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of backends: the same results as plain loops.

#include "moue/backend.hpp"
#include "moue/testing/backend_trial.hpp"

namespace moue::inline v0_1::testing {

/// Checks that a backend that works on host memory is one: operations agree with plain loops in double, in float and
/// with bf16 weights, for empty, single, strided and large inputs, bit for bit the same each time, `gated_linear` and its
/// backward among them where the backend has its own; plans and blocks are those that plain loops make.
template <class B>
  requires(Backend<B, double>&& Backend<B, float>)
law_report check_backend_laws(const B& backend) {
  law_report report("backend");
  report.expect("there is a worker", backend.workers() >= 1,
                [&] { return "workers() is " + std::to_string(backend.workers()); });
  if (!report) return report;
  const auto check = [&](auto trial) {
    report.attempt("products", [&] { trial.check_products(); });
    report.attempt("gated_linear or gated_linear_backward", [&] { trial.check_gated(); });
    report.attempt("each_row or each_element", [&] { trial.check_visits(); });
    report.attempt("dispatch or each_block", [&] {
      trial.check_runs(120);
      trial.check_runs(moue::detail::block_rows + 500);  // more than one block for expert 0
    });
  };
  check(detail::backend_trial<double, double, B>(report, backend));
  check(detail::backend_trial<float, float, B>(report, backend));
  check(detail::backend_trial<float, bf16, B>(report, backend));
  return report;
}

}  // namespace moue::inline v0_1::testing
