// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// An expert of few columns between two projections.

#include <array>
#include <cmath>
#include <utility>

#include "moue/arrays.hpp"
#include "moue/expert.hpp"
#include "moue/expert/inner.hpp"
#include "moue/expert/rows.hpp"

namespace moue::inline v0_1 {

/// y = W_out E(W_in x) with any expert E that has a gated `backward`, `project_in` W_in [width of E, width] and
/// `project_out` W_out [width, width of E], whose tensors stand behind E's: the routed experts of a Nemotron-H with
/// latent projections, where all experts of a layer have equal ones. Saves what goes into E and what comes out.
/// 4 width (width of E) FLOPs a row forward besides E's, twice that backward.
template <class ExpertT>
struct projected {
  static_assert(check_expert<ExpertT>());
  static_assert(detail::has_gated_backward<ExpertT>,
                "moue: projected needs an expert with the form of backward that takes a gated_gradient");

  ExpertT expert;  ///< E
  index_t width;   ///< of x and y

  /// E has a width of its own.
  constexpr projected(ExpertT inner, index_t outer_width) : expert(std::move(inner)), width(outer_width) {}

  auto parameters() const {
    const index_t latent = expert.width;
    return detail::join_arrays(
        expert.parameters(),
        std::array{parameter_spec{"project_in", latent, width, initializer::normal(1 / std::sqrt(double(width))),
                                  scope::expert, true, true},
                   parameter_spec{"project_out", width, latent, initializer::normal(1 / std::sqrt(double(latent))),
                                  scope::expert, true, true}});
  }
  auto saved() const { return detail::join_arrays(expert.saved(), std::array<index_t, 2>{expert.width, expert.width}); }
  auto temporaries() const {
    return detail::join_arrays(expert.temporaries(), std::array<index_t, 2>{expert.width, expert.width});
  }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
               matrix_view<C> y) const {
    const auto& [in, out] = latent_of(saved);
    ops.linear(x, p[parts::own], in);
    expert.forward(ops, parts::parameters_of(p), token_rows<C, C>(in), parts::saved_of(saved),
                   parts::temporaries_of(temporary), out);
    ops.linear(out, p[parts::own + 1], y);
  }

  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    const auto& [in, answer] = latent_of(saved);
    const auto& d_answer = temporary[parts::own_temporary];
    const auto& d_in = temporary[parts::own_temporary + 1];
    // <dy, W_out answer> is <dy W_out, answer>: the inner expert finds the gate's gradient.
    ops.input_gradient(out.dy, p[parts::own + 1], d_answer);
    expert.backward(ops, parts::parameters_of(p), token_rows<C, C>(in), parts::saved_of(saved),
                    parts::temporaries_of(temporary), gated_gradient<C>{d_answer, out.gate, out.dgate}, d_in,
                    parts::parameters_of(dp));
    ops.each_element(answer.rows, answer.cols,
                     detail::scale_rows{token_rows<C, C>(answer), out.gate, matrix_view<C>(d_answer)});
    ops.weight_gradient(out.dy, d_answer, dp[parts::own + 1]);
    ops.weight_gradient(d_in, x, dp[parts::own]);
    ops.input_gradient(d_in, p[parts::own], dx);
  }

 private:
  using parts = detail::inner_expert<ExpertT>;

  /// What goes into E, and what comes out.
  static auto latent_of(const auto& saved) { return detail::sub_array<parts::own_saved, 2>(saved); }
};

}  // namespace moue::inline v0_1
