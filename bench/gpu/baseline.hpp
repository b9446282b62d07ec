// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one writes with cuBLAS today: rows gathered in expert order, one product per expert, activations between
// them. Ids, gates, the rows' order and all sizes are on the host beforehand, for nothing, and the
// router gets no gradient.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/backend/cuda/blas.cuh"
#include "moue/backend/cuda/segments.cuh"
#include "moue/parameter.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"
#include "shapes.hpp"

namespace bench {

/// As many numbers as a thread moves at once. Widths are multiples of them.
template <class S>
struct alignas(16) packet {
  static constexpr index_t size = 16 / sizeof(S);
  S at[size];

  MOUE_HD static packet& in(S* data, index_t i) { return reinterpret_cast<packet*>(data)[i]; }
  MOUE_HD static const packet& in(const S* data, index_t i) { return reinterpret_cast<const packet*>(data)[i]; }
};

/// to[row] = from[row's token], times the row's gate if there are gates.
template <class S>
struct gather_rows {
  using C = moue::compute_t<S>;
  moue::matrix_view<const S> from;
  const std::int32_t* token;
  const C* gate;
  moue::matrix_view<S> to;
  MOUE_HD void operator()(index_t row, index_t i) const {
    auto values = packet<S>::in(from.row(token[row]).data, i);
    if (gate != nullptr)
      for (auto& v : values.at) v = S(gate[row] * static_cast<C>(v));
    packet<S>::in(to.row(row).data, i) = values;
  }
};

/// to[token] = the sum of its rows, each times its gate if there are gates.
template <class S>
struct sum_tokens {
  using C = moue::compute_t<S>;
  moue::matrix_view<const S> from;
  const std::int32_t* row_of_entry;
  const C* gate;
  index_t k;
  moue::matrix_view<S> to;
  MOUE_HD void operator()(index_t token, index_t i) const {
    constexpr index_t size = packet<S>::size;
    C sum[size] = {};
    for (index_t entry = token * k; entry < (token + 1) * k; ++entry) {
      const std::int32_t row = row_of_entry[entry];
      const auto values = packet<S>::in(from.row(row).data, i);
      const C scale = gate != nullptr ? gate[row] : C(1);
      for (index_t j = 0; j < size; ++j) sum[j] += scale * static_cast<C>(values.at[j]);
    }
    packet<S> values;
    for (index_t j = 0; j < size; ++j) values.at[j] = S(sum[j]);
    packet<S>::in(to.row(token).data, i) = values;
  }
};

/// h = silu(g) u.
template <class S>
struct activate {
  using C = moue::compute_t<S>;
  moue::matrix_view<const S> g, u;
  moue::matrix_view<S> h;
  MOUE_HD void operator()(index_t row, index_t i) const {
    using std::exp;
    const auto gate = packet<S>::in(g.row(row).data, i), up = packet<S>::in(u.row(row).data, i);
    packet<S> values;
    for (index_t j = 0; j < packet<S>::size; ++j) {
      const C z = static_cast<C>(gate.at[j]);
      values.at[j] = S(z / (C(1) + exp(-z)) * static_cast<C>(up.at[j]));
    }
    packet<S>::in(h.row(row).data, i) = values;
  }
};

/// From dh the gradients of g and u.
template <class S>
struct activate_backward {
  using C = moue::compute_t<S>;
  moue::matrix_view<const S> g, u, dh;
  moue::matrix_view<S> dg, du;
  MOUE_HD void operator()(index_t row, index_t i) const {
    using std::exp;
    const auto gate = packet<S>::in(g.row(row).data, i), up = packet<S>::in(u.row(row).data, i);
    const auto back = packet<S>::in(dh.row(row).data, i);
    packet<S> to_gate, to_up;
    for (index_t j = 0; j < packet<S>::size; ++j) {
      const C z = static_cast<C>(gate.at[j]), d = static_cast<C>(back.at[j]);
      const C sigmoid = C(1) / (C(1) + exp(-z));
      to_gate.at[j] = S(d * static_cast<C>(up.at[j]) * sigmoid * (C(1) + z * (C(1) - sigmoid)));
      to_up.at[j] = S(d * z * sigmoid);
    }
    packet<S>::in(dg.row(row).data, i) = to_gate;
    packet<S>::in(du.row(row).data, i) = to_up;
  }
};

/// Where the tensors of weights or gradients lie.
template <class T, class Tensors>
std::vector<T*> places_of(Tensors& tensors) {
  std::vector<T*> places;
  for (index_t i = 0; i < tensors.layout().tensors(); ++i) places.push_back(tensors[i].data);
  return places;
}

template <class GpuT, class BlasT, class S>
class baseline {
  using C = moue::compute_t<S>;

 public:
  /// Without places for gradients forward alone.
  baseline(const GpuT& gpu, const BlasT& blas, const shape& s, const moue::parameters<S>& weights,
           const std::vector<C*>& gradients, const moue::routing<C>& routing)
      : gpu_(gpu),
        blas_(blas),
        shape_(s),
        training_(!gradients.empty()),
        tokens_(routing.tokens()),
        rows_(routing.entries()),
        numbers_(array<S>(rows_ * (2 * s.width + 3 * s.hidden + (training_ ? s.width + 3 * s.hidden : 0)))),
        token_(array<std::int32_t>(rows_)),
        row_(array<std::int32_t>(rows_)),
        gate_(array<C>(rows_)) {
    sort(routing);
    S* next = numbers_.data();
    const auto take = [&](index_t cols) {
      const moue::matrix_view<S> m{next, rows_, cols};
      next += rows_ * cols;
      return m;
    };
    in_ = take(s.width), out_ = take(s.width), g_ = take(s.hidden), u_ = take(s.hidden), h_ = take(s.hidden);
    if (training_) dout_ = take(s.width), dh_ = take(s.hidden), dg_ = take(s.hidden), du_ = take(s.hidden);

    std::array<std::vector<void*>, 3> w, dw;
    for (index_t e = 0; e < s.experts; ++e)
      for (index_t which = 0; which < 3; ++which) {
        const index_t tensor = weights.layout().expert_first(e) + which;
        w[static_cast<std::size_t>(which)].push_back(const_cast<S*>(weights[tensor].data));
        if (training_) dw[static_cast<std::size_t>(which)].push_back(gradients[static_cast<std::size_t>(tensor)]);
      }
    add_rows(forward_up_, in_, w[0], g_, moue::store::assign, false);
    add_rows(forward_up_, in_, w[1], u_, moue::store::assign, false);
    add_rows(forward_down_, h_, w[2], out_, moue::store::assign, false);
    if (!training_) return;
    add_rows(backward_down_, dout_, w[2], dh_, moue::store::assign, true);
    add_gradients(backward_down_, dout_, h_, dw[2]);
    add_rows(backward_up_, dg_, w[0], out_, moue::store::assign, true);  // dx, where the outputs were
    add_rows(backward_up_, du_, w[1], out_, moue::store::add, true);
    add_gradients(backward_up_, dg_, in_, dw[0]);
    add_gradients(backward_up_, du_, in_, dw[1]);
  }

  void forward(moue::matrix_view<const S> x, moue::matrix_view<S> y) const {
    const auto ops = operations();
    ops.each_element(rows_, packets(shape_.width), gather_rows<S>{x, token_.data(), nullptr, in_});
    run(forward_up_);
    ops.each_element(rows_, packets(shape_.hidden), activate<S>{g_, u_, h_});
    run(forward_down_);
    ops.each_element(tokens_, packets(shape_.width), sum_tokens<S>{out_, row_.data(), gate_.data(), shape_.k, y});
  }
  /// After `forward`: adds to the gradients.
  void backward(moue::matrix_view<const S> dy, moue::matrix_view<S> dx) const {
    const auto ops = operations();
    ops.each_element(rows_, packets(shape_.width), gather_rows<S>{dy, token_.data(), gate_.data(), dout_});
    run(backward_down_);
    ops.each_element(rows_, packets(shape_.hidden), activate_backward<S>{g_, u_, dh_, dg_, du_});
    run(backward_up_);
    ops.each_element(tokens_, packets(shape_.width), sum_tokens<S>{out_, row_.data(), nullptr, shape_.k, dx});
  }

  /// Bytes of memory beside weights and gradients, for as many rows.
  static double bytes(const shape& s, index_t rows, bool training) {
    return static_cast<double>(rows) * static_cast<double>(sizeof(S)) *
           static_cast<double>(2 * s.width + 3 * s.hidden + (training ? s.width + 3 * s.hidden : 0));
  }

 private:
  template <class T>
  using array_type = decltype(std::declval<GpuT>().template make_array<T>(0));
  template <class T>
  auto array(index_t size) const {
    return gpu_.template make_array<T>(size);
  }
  auto operations() const { return gpu_.operations(moue::matrix_view<C>{}); }
  static index_t packets(index_t cols) { return cols / packet<S>::size; }

  /// Rows in expert order, as the library's plans have them.
  void sort(const moue::routing<C>& routing) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(rows_)), token(ids.size()), row(ids.size());
    std::vector<C> gates(ids.size()), gate(ids.size());
    gpu_.download(routing.expert.data, std::span(ids));
    gpu_.download(routing.gate.data, std::span(gates));
    groups_.offsets.assign(static_cast<std::size_t>(shape_.experts) + 1, 0);
    for (const auto id : ids) ++groups_.offsets[static_cast<std::size_t>(id) + 1];
    std::partial_sum(groups_.offsets.begin(), groups_.offsets.end(), groups_.offsets.begin());
    auto next = groups_.offsets;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto at = static_cast<std::size_t>(next[static_cast<std::size_t>(ids[i])]++);
      row[i] = static_cast<std::int32_t>(at);
      token[at] = static_cast<std::int32_t>(static_cast<index_t>(i) / shape_.k);
      gate[at] = gates[i];
    }
    token_.upload(token);
    row_.upload(row);
    gate_.upload(gate);
  }

  /// Calls, put together once.
  using phase = std::vector<moue::detail::gpu::gemm_call>;
  struct noting {
    phase& to;
    void gemm(const moue::detail::gpu::gemm_call& call) const { to.push_back(call); }
  };

  void add_rows(phase& to, const moue::matrix_view<S>& x, const std::vector<void*>& w, const moue::matrix_view<S>& y,
                moue::store mode, bool transposed) const {
    const index_t n = transposed ? x.cols : y.cols, k = transposed ? y.cols : x.cols;
    moue::detail::gpu::call_rows(noting{to}, groups_, moue::matrix_view<const S>(x), w.data(), n, k, y, mode, false,
                                 transposed);
  }
  void add_gradients(phase& to, const moue::matrix_view<S>& dy, const moue::matrix_view<S>& x,
                     const std::vector<void*>& dw) const {
    moue::detail::gpu::call_gradients<C>(noting{to}, groups_, moue::matrix_view<const S>(dy),
                                         moue::matrix_view<const S>(x), dw.data(), moue::store::add, false);
  }
  void run(const phase& all) const {
    for (const auto& call : all) blas_.gemm(call);
  }

  GpuT gpu_;
  BlasT blas_;
  shape shape_;
  bool training_;
  index_t tokens_, rows_;
  array_type<S> numbers_;
  array_type<std::int32_t> token_, row_;
  array_type<C> gate_;
  moue::detail::gpu::host_groups groups_;
  moue::matrix_view<S> in_, out_, g_, u_, h_, dout_, dh_, dg_, du_;
  phase forward_up_, forward_down_, backward_down_, backward_up_;
};

}  // namespace bench
