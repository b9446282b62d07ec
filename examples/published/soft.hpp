// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Soft MoE (Puigcerver et al., arXiv 2308.00951): nothing is selected. Every expert has slots, each slot reads a mean
// over tokens and each token a mean over slots. A program over the executor, whose tokens are the slots.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <moue/executor.hpp>
#include <moue/parameter.hpp>
#include <moue/workspace.hpp>
#include <utility>

namespace published {

/// unit_i = v_i factor_i, factor_i = (|v_i|² + 1e-6)^(-1/2).
template <class C, class V>
struct normalise {
  moue::matrix_view<const V> v;
  moue::matrix_view<C> unit;
  moue::vector_view<C> factor;
  MOUE_HD void operator()(moue::index_t i) const {
    C square = C(0);
    for (moue::index_t j = 0; j < v.cols; ++j) square += static_cast<C>(v(i, j)) * static_cast<C>(v(i, j));
    factor[i] = C(1) / std::sqrt(square + C(1e-6));
    for (moue::index_t j = 0; j < v.cols; ++j) unit(i, j) = static_cast<C>(v(i, j)) * factor[i];
  }
};
template <class C>
struct normalise_backward {
  moue::matrix_view<const C> unit, dunit;
  moue::vector_view<const C> factor;
  moue::matrix_view<C> dv;  // added to
  MOUE_HD void operator()(moue::index_t i) const {
    C along = C(0);
    for (moue::index_t j = 0; j < unit.cols; ++j) along += unit(i, j) * dunit(i, j);
    for (moue::index_t j = 0; j < unit.cols; ++j) dv(i, j) += factor[i] * (dunit(i, j) - along * unit(i, j));
  }
};

/// Row i of `weight` is softmax(scale · cosine_i) over the columns that take part, and zero if it does not itself.
/// Empty masks let all take part.
template <class C, class S>
struct attend {
  moue::matrix_view<const S> scale;
  moue::matrix_view<const C> cosine;
  moue::matrix_view<C> weight;
  moue::vector_view<const std::uint8_t> rows, columns;

  MOUE_HD static bool in(const moue::vector_view<const std::uint8_t>& mask, moue::index_t i) {
    return mask.size == 0 || mask[i] != 0;
  }
  MOUE_HD void operator()(moue::index_t i) const {
    const C factor = static_cast<C>(scale(0, 0));
    C most = C(0), sum = C(0);
    bool any = false;
    for (moue::index_t j = 0; j < cosine.cols; ++j)
      if (in(columns, j) && (!any || factor * cosine(i, j) > most)) most = factor * cosine(i, j), any = true;
    for (moue::index_t j = 0; j < cosine.cols; ++j)
      sum += weight(i, j) = in(rows, i) && in(columns, j) ? std::exp(factor * cosine(i, j) - most) : C(0);
    for (moue::index_t j = 0; j < cosine.cols && sum > C(0); ++j) weight(i, j) /= sum;
  }
};
/// d weight becomes d cosine, and `dscale` is the row's part of d scale.
template <class C, class S>
struct attend_backward {
  moue::matrix_view<const S> scale;
  moue::matrix_view<const C> cosine, weight;
  moue::matrix_view<C> dweight, dscale;
  MOUE_HD void operator()(moue::index_t i) const {
    C mean = C(0);
    dscale(i, 0) = C(0);
    for (moue::index_t j = 0; j < weight.cols; ++j) mean += weight(i, j) * dweight(i, j);
    for (moue::index_t j = 0; j < weight.cols; ++j) {
      const C dlogit = weight(i, j) * (dweight(i, j) - mean);
      dscale(i, 0) += dlogit * cosine(i, j);
      dweight(i, j) = dlogit * static_cast<C>(scale(0, 0));
    }
  }
};

/// Slot m belongs to expert m / slots, with gate 1.
template <class C>
struct assign_slot {
  moue::vector_view<moue::index_t> offsets;
  moue::vector_view<std::int32_t> expert;
  moue::vector_view<C> gate;
  moue::index_t slots;
  MOUE_HD void operator()(moue::index_t m) const {
    offsets[m] = m;
    if (m == expert.size) return;
    expert[m] = static_cast<std::int32_t>(m / slots);
    gate[m] = C(1);
  }
};
struct set_live {
  std::uint8_t* marks;
  moue::index_t tensor;
  MOUE_HD void operator()(moue::index_t) const { marks[tensor] = 1; }
};

/// What a batch works in, with T tokens and M slots in all. Views of caller memory.
template <class C>
struct soft_memory {
  moue::expert_memory<C> experts;
  moue::vector_view<moue::index_t> offsets;
  moue::vector_view<std::int32_t> expert;
  moue::vector_view<C> gate, dgate, of_x, of_mu;       // of_x and of_mu: the factors that normalise
  moue::matrix_view<C> x, mu, dx, dmu;                 // normalised: [T, width] and [M, width]
  moue::matrix_view<C> in, out, din, dout;             // of slots [M, width]
  moue::matrix_view<C> to_slots, dispatch, ddispatch;  // [M, T]
  moue::matrix_view<C> to_tokens, combine, dcombine;   // [T, M]
  moue::matrix_view<C> dscale;                         // [M + T, 1]

  moue::routing<C> routing() const { return {offsets, expert, gate}; }
};

/// Parameters "mu" [experts · slots, width], a direction for every slot, and "scale", beside those of the experts.
/// Tokens that are not valid are read by no slot and get zeros; they must hold finite numbers. Tokens see each other:
/// not for causal decoding.
template <class ExpertT, class BackendT>
class soft_mixture {
 public:
  soft_mixture(ExpertT expert, moue::index_t experts, moue::index_t slots, BackendT backend)
      : run_(std::move(expert), experts, std::move(backend)), slots_(slots) {
    auto layout = std::make_shared<moue::parameter_layout>();
    run_.describe(*layout);
    const double deviation = 1 / std::sqrt(static_cast<double>(run_.width()));
    mu_ = layout->add(
        "mu",
        {.name = "mu", .rows = experts * slots, .cols = run_.width(), .init = moue::initializer::normal(deviation)}, -1,
        -1);
    scale_ = layout->add("scale", {.name = "scale", .init = moue::initializer::constant(1)}, -1, -1);
    layout_ = std::move(layout);
  }

  const std::shared_ptr<const moue::parameter_layout>& layout() const { return layout_; }

  /// Memory for batches of `tokens`, no more and no fewer.
  template <moue::Storage S, class C = moue::compute_t<S>>
  soft_memory<C> take(moue::arena& memory, moue::index_t tokens) const {
    const moue::index_t all = run_.experts() * slots_, width = run_.width();
    const auto rows = [&](moue::index_t n, moue::index_t cols) { return memory.take<C>(n, cols, "soft mixture"); };
    const auto list = [&](moue::index_t n) { return memory.take<C>(n, "soft mixture"); };
    soft_memory<C> m;
    m.experts.record = run_.template take_record<C>(memory, all, all);
    m.experts.scratch = run_.template take_scratch<S>(memory, all, true);
    m.offsets = memory.take<moue::index_t>(all + 1, "soft mixture");
    m.expert = memory.take<std::int32_t>(all, "soft mixture");
    for (auto* v : {&m.gate, &m.dgate, &m.of_mu}) *v = list(all);
    m.of_x = list(tokens);
    for (auto* v : {&m.mu, &m.dmu, &m.in, &m.out, &m.din, &m.dout}) *v = rows(all, width);
    for (auto* v : {&m.x, &m.dx}) *v = rows(tokens, width);
    for (auto* v : {&m.to_slots, &m.dispatch, &m.ddispatch}) *v = rows(all, tokens);
    for (auto* v : {&m.to_tokens, &m.combine, &m.dcombine}) *v = rows(tokens, all);
    m.dscale = rows(all + tokens, 1);
    return m;
  }

  template <moue::Storage S>
  void forward(const moue::parameters<S>& weights, moue::matrix_view<const moue::compute_t<S>> x,
               moue::vector_view<const std::uint8_t> valid, moue::matrix_view<moue::compute_t<S>> y,
               soft_memory<moue::compute_t<S>>& m) const {
    using C = moue::compute_t<S>;
    const auto ops = run_.backend().operations(m.experts.scratch.conversion);
    const moue::matrix_view<const S> mu = weights[mu_], scale = weights[scale_];
    ops.each_row(x.rows, normalise<C, C>{x, m.x, m.of_x});
    ops.each_row(mu.rows, normalise<C, S>{mu, m.mu, m.of_mu});
    ops.linear(m.mu, m.x, m.to_slots);
    ops.linear(m.x, m.mu, m.to_tokens);
    ops.each_row(mu.rows, attend<C, S>{scale, m.to_slots, m.dispatch, {}, valid});
    ops.each_row(x.rows, attend<C, S>{scale, m.to_tokens, m.combine, valid, {}});
    ops.each_row(mu.rows + 1, assign_slot<C>{m.offsets, m.expert, m.gate, slots_});
    ops.input_gradient(m.dispatch, x, m.in);  // a product without transposes: in = dispatch x
    run_.forward(m.routing(), weights, m.in, m.out, m.experts);
    ops.input_gradient(m.combine, m.out, y);
  }

  /// After `forward` with the same arguments: assigns `dx`, writes the gradients that `into` wants.
  template <moue::Storage S>
  void backward(const moue::parameters<S>& weights, moue::matrix_view<const moue::compute_t<S>> x,
                moue::matrix_view<const moue::compute_t<S>> dy, moue::matrix_view<moue::compute_t<S>> dx,
                moue::gradients<moue::compute_t<S>>& into, soft_memory<moue::compute_t<S>>& m) const {
    using C = moue::compute_t<S>;
    const auto ops = run_.backend().operations(m.experts.scratch.conversion);
    const moue::matrix_view<const S> scale = weights[scale_];
    ops.linear(dy, m.out, m.dcombine);
    ops.weight_gradient(m.combine, dy, m.dout, moue::store::assign);
    run_.backward(m.routing(), weights, m.in, m.dout, m.din, m.dgate, into, m.experts);
    ops.linear(m.din, x, m.ddispatch);
    ops.weight_gradient(m.dispatch, m.din, dx, moue::store::assign);

    const moue::index_t all = m.mu.rows;
    ops.each_row(all, attend_backward<C, S>{scale, m.to_slots, m.dispatch, m.ddispatch, m.dscale.row_block(0, all)});
    ops.each_row(x.rows,
                 attend_backward<C, S>{scale, m.to_tokens, m.combine, m.dcombine, m.dscale.row_block(all, x.rows)});
    ops.input_gradient(m.dcombine, m.mu, m.dx);
    ops.weight_gradient(m.ddispatch, m.mu, m.dx, moue::store::add);
    ops.weight_gradient(m.dcombine, m.x, m.dmu, moue::store::assign);
    ops.input_gradient(m.ddispatch, m.x, m.dmu, moue::store::add);
    ops.each_row(x.rows, normalise_backward<C>{m.x, m.dx, m.of_x, dx});

    std::array<bool, 2> written{};
    const auto dmu = moue::accumulate(ops, into.target(mu_, written[0]));
    ops.each_row(dmu.rows, normalise_backward<C>{m.mu, m.dmu, m.of_mu, dmu});
    ops.column_sum(m.dscale, into.target(scale_, written[1]));
    ops.each_row(written[0], set_live{into.marks().data, mu_});
    ops.each_row(written[1], set_live{into.marks().data, scale_});
  }

 private:
  moue::executor<ExpertT, BackendT> run_;
  moue::index_t slots_, mu_ = 0, scale_ = 0;
  std::shared_ptr<const moue::parameter_layout> layout_;
};

}  // namespace published
