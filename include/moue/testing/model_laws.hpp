// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The law of whole models: every gradient of a mixture inside a host model agrees with central differences.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/any/erase.hpp"
#include "moue/testing/model_trial.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing {

/// The host of a residual stack: the next layer reads x + y.
struct residual {
  void forward(index_t, matrix_view<const double> x, matrix_view<const double> y, matrix_view<double> next) const {
    for (index_t t = 0; t < x.rows; ++t)
      for (index_t j = 0; j < x.cols; ++j) next(t, j) = x(t, j) + y(t, j);
  }
  void backward(index_t, matrix_view<const double>, matrix_view<const double>, matrix_view<const double> dnext,
                matrix_view<double> dx, matrix_view<double> dy) const {
    for (index_t t = 0; t < dnext.rows; ++t)
      for (index_t j = 0; j < dnext.cols; ++j) dx(t, j) = dy(t, j) = dnext(t, j);
  }
};

namespace detail {

/// The worst disagreement of one tensor.
struct worst_difference {
  double error = 0;
  std::string text = {};
};

/// Compares `gradient`, of the tensor called `name`, with differences of the trial's loss.
template <class Trial>
worst_difference compare_tensor(law_report& report, Trial& trial, const std::string& name,
                                const matrix_view<double>& values, const numbers& gradient) {
  // With a loss below 100, rounding and curvature each leave about 1e-9 in a difference over 1e-5. Gradients are to be
  // right to 1e-6 of the tensor's largest, or of 0.01 if that is more. The second step is for differences over which a
  // selection or a slope jumps.
  constexpr double least_scale = 1e-2, steps[]{1e-5, 1e-6};
  double scale = least_scale;
  for (index_t i = 0; i < gradient.rows(); ++i)
    for (index_t j = 0; j < gradient.cols(); ++j) scale = (std::max)(scale, std::abs(gradient(i, j)));
  const auto selected = trial.selected();
  bool moved = false;
  const auto loss = [&] {
    const double value = trial.forward();
    moved = moved || trial.selected() != selected;
    return value;
  };
  worst_difference worst;
  index_t compared = 0, left_out = 0;
  std::string first_left_out;
  each_difference(values, gradient, loss, [&](double stated, const auto& difference, const auto& where) {
    double least = std::numeric_limits<double>::infinity(), measured = 0;
    bool usable = false;
    for (const double h : steps) {
      if (usable && least <= difference_tolerance) break;
      moved = false;
      const double slope = difference(h);
      if (moved) continue;
      const double error = std::abs(slope - stated) / scale;
      if (!usable || error < least) measured = slope;
      least = std::isnan(error) ? std::numeric_limits<double>::infinity() : (std::min)(least, error);
      usable = true;
    }
    if (!usable) {
      if (left_out++ == 0) first_left_out = where();
      return;
    }
    ++compared;
    if (least > worst.error) worst = {least, difference_text(name + where(), stated, measured)};
  });
  if (left_out > 0)
    report.note(std::to_string(left_out) + " of " + std::to_string(left_out + compared) + " differences of " + name +
                " moved a selection and were left out, the first at " + first_left_out +
                "; another seed may show them");
  report.expect("some difference of every tensor leaves selections as they are", compared > 0 || left_out == 0,
                [&] { return "no difference of " + name + " does: choose another seed"; });
  return worst;
}

template <ModelHost H>
void check_model(law_report& report, const any_model<double>& model, H& host, const pass_options& options,
                 std::uint64_t seed) {
  model_trial<H> trial(model, host, options, seed);
  const double loss = trial.forward();
  trial.backward();
  report.expect("the loss is finite", std::isfinite(loss), [&] { return "it is " + text(loss); });
  report.expect("forward repeats itself", trial.forward() == loss,
                [&] { return "the loss was " + text(loss) + ", and another number the second time"; });

  std::vector<worst_difference> found;
  const auto compare = [&](const std::string& name, const matrix_view<double>& values, const numbers& gradient) {
    auto worst = compare_tensor(report, trial, name, values, gradient);
    if (worst.error > difference_tolerance) found.push_back(std::move(worst));
    trial.forward();  // the selections to compare with
  };
  const auto settle = [&](std::string_view law) {
    std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.error > b.error; });
    report.expect(law, found.empty(), [&] { return found.front().text; });
    for (std::size_t i = 1; i < found.size(); ++i) report.note("also wrong: " + found[i].text);
    found.clear();
  };
  std::string idle;
  for (index_t i = 0; i < trial.weights.layout().tensors(); ++i) {
    const auto& info = trial.weights.layout()[i];
    const numbers gradient = trial.gradient(i);
    const bool zero = gradient.same(numbers(info.rows, info.cols, 0));
    if (!info.trained) {
      report.expect("buffers get no gradient", zero, [&] { return "d " + info.name + " is not 0"; });
      continue;
    }
    if (zero) idle += (idle.empty() ? "" : ", ") + info.name;
    compare(info.name, trial.weights[i], gradient);
  }
  settle("gradients of parameters agree with central differences");
  const numbers dx = trial.dx, dstate = trial.dstate;
  compare("x", trial.x.view(), dx);
  settle("the gradient of the input agrees with central differences");
  if (dstate.cols() > 0) {
    compare("state_in", trial.state.view(), dstate);
    settle("the gradient of the depth state agrees with central differences");
  }
  if (!idle.empty()) report.note("gradients that are 0 everywhere: " + idle + "; more tokens may reach them");
}

}  // namespace detail

/// Checks that every gradient of `model` in a host model is that of the loss: trained tensors, the input, and the depth
/// state on entry, for a batch with padding and an armed balancing loss. `host` is a `LayerHost` or a `ModelHost`; a
/// residual stack by default. `options` may choose a range of layers; with `router_input`, or where assignments are
/// edited, write a `ModelHost`. Every tensor is probed at up to 32 entries and along two directions, so a batch goes
/// forward some 100 times per tensor: choose small sizes.
///
/// The report names the worst tensor and entry, and as notes the others that are wrong, differences that moved a
/// selection and were left out, and tensors that nothing reached. `seed` draws weights and batch. Everything lies in
/// host memory: for a mixture on a device, check `model.on(moue::reference{})`.
template <class H = residual>
law_report check_gradients(const any_model<double>& model, H host = {}, const pass_options& options = {.tokens = 7},
                           std::uint64_t seed = 1) {
  static_assert(LayerHost<H> || ModelHost<H>,
                "moue: a host needs 'forward(layer, x, y, next)' with 'backward(layer, x, y, dnext, dx, dy)', or "
                "'forward(pass, x, out)' with 'backward(pass, dout, dx, gradients)'");
  law_report report("model");
  report.attempt("a pass through the model", [&] {
    if constexpr (ModelHost<H>) {
      detail::check_model(report, model, host, options, seed);
    } else {
      const index_t end = options.count < 0 ? model.layers() : options.first + options.count;
      detail::layer_stack<H> stack(host, options.first, end);
      detail::check_model(report, model, stack, options, seed);
    }
  });
  return report;
}
/// The same for a mixture.
template <class E, class T, class R, class L, class B, class H = residual>
law_report check_gradients(const mixture<E, T, R, L, B>& model, H host = {},
                           const pass_options& options = {.tokens = 7}, std::uint64_t seed = 1) {
  return check_gradients(*erase<double>(model), std::move(host), options, seed);
}

}  // namespace moue::inline v0_1::testing
