// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <moue/executor.hpp>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <vector>

/// Experts of which every rank owns as many: rank r those from r · own on. A layer's rows travel to the owners of their
/// experts and the results travel back. `run` is an executor over the experts that this rank owns.
template <class Executor>
struct remote_experts {
  MPI_Comm ranks;
  const Executor& run;
  const moue::parameters<float>& weights;

  /// What a layer's forward leaves for its backward.
  struct visit {
    std::vector<moue::index_t> tokens, entries;  // of this rank's routing, in the order in which rows leave
    std::vector<int> leaving, arriving;          // rows to and from every rank
    std::vector<float> x, gates;                 // of the rows that arrived, one assignment each
    std::vector<std::int32_t> ids;
    std::vector<moue::index_t> offsets;
    std::unique_ptr<moue::workspace> block;
    moue::expert_memory<float> memory;

    moue::index_t rows() const { return std::ssize(ids); }
    moue::routing<float> given() const {
      return {{offsets.data(), rows() + 1}, {ids.data(), rows()}, {gates.data(), rows()}};
    }
  };

  /// y = what the experts make of x as `r` says, wherever they are.
  void forward(const moue::routing<float>& r, moue::matrix_view<const float> x, moue::matrix_view<float> y,
               visit& v) const {
    // By expert, hence by rank, then by token: at its owner an expert finds the rows of all ranks in one rank's order.
    std::vector<std::tuple<std::int32_t, moue::index_t, moue::index_t>> order;
    for (moue::index_t t = 0; t < r.tokens(); ++t)
      for (moue::index_t i = r.offsets[t]; i < r.offsets[t + 1]; ++i)
        if (r.expert[i] >= 0) order.emplace_back(r.expert[i], t, i);
    std::sort(order.begin(), order.end());

    const auto own = static_cast<std::int32_t>(run.experts());
    std::vector<float> rows;
    std::vector<std::int32_t> ids;
    v.leaving.assign(static_cast<std::size_t>(size()), 0);
    v.arriving = v.leaving;
    v.tokens.clear();
    v.entries.clear();
    for (const auto& [expert, token, entry] : order) {
      ++v.leaving[static_cast<std::size_t>(expert / own)];
      ids.push_back(expert % own);
      v.tokens.push_back(token);
      v.entries.push_back(entry);
      rows.insert(rows.end(), x.row(token).begin(), x.row(token).end());
    }
    MPI_Alltoall(v.leaving.data(), 1, MPI_INT, v.arriving.data(), 1, MPI_INT, ranks);
    v.ids = travel(ids, v.leaving, v.arriving, 1);
    v.x = travel(rows, v.leaving, v.arriving, run.width());

    v.offsets.resize(v.ids.size() + 1);
    std::iota(v.offsets.begin(), v.offsets.end(), 0);
    v.gates.assign(v.ids.size(), 1);  // the gates stay with the tokens until backward
    v.block = std::make_unique<moue::workspace>(run.template workspace_bytes<float>(v.rows(), v.rows()));
    v.memory = run.template carve<float>(*v.block, v.rows(), v.rows());
    std::vector<float> out(v.x.size());
    run.forward(v.given(), weights, read(v.x), write(out), v.memory);

    const auto returned = travel(out, v.arriving, v.leaving, run.width());
    clear(y);
    for (std::size_t i = 0; i < v.tokens.size(); ++i)
      for (moue::index_t j = 0; j < y.cols; ++j)
        y(v.tokens[i], j) += r.gate[v.entries[i]] * read(returned)(static_cast<moue::index_t>(i), j);
  }

  /// From dy assigns dx and the gradients of r's gates, and adds to those of the experts that this rank owns.
  void backward(const moue::routing<float>& r, moue::matrix_view<const float> dy, moue::matrix_view<float> dx,
                std::vector<float>& dgates, moue::gradients<float>& into, visit& v) const {
    std::vector<float> rows, gates;
    for (std::size_t i = 0; i < v.tokens.size(); ++i) {
      rows.insert(rows.end(), dy.row(v.tokens[i]).begin(), dy.row(v.tokens[i]).end());
      gates.push_back(r.gate[v.entries[i]]);
    }
    v.gates = travel(gates, v.leaving, v.arriving, 1);
    const auto arrived = travel(rows, v.leaving, v.arriving, run.width());
    std::vector<float> out(v.x.size()), dgates_out(v.ids.size());
    run.backward(v.given(), weights, read(v.x), read(arrived), write(out),
                 moue::vector_view<float>{dgates_out.data(), v.rows()}, into, v.memory);

    const auto returned = travel(out, v.arriving, v.leaving, run.width());
    const auto of_gates = travel(dgates_out, v.arriving, v.leaving, 1);
    clear(dx);
    dgates.assign(static_cast<std::size_t>(r.entries()), 0);
    for (std::size_t i = 0; i < v.tokens.size(); ++i) {
      for (moue::index_t j = 0; j < dx.cols; ++j)
        dx(v.tokens[i], j) += read(returned)(static_cast<moue::index_t>(i), j);
      dgates[static_cast<std::size_t>(v.entries[i])] = of_gates[i];
    }
  }

 private:
  int size() const {
    int size = 0;
    MPI_Comm_size(ranks, &size);
    return size;
  }

  /// Rows of `width` elements: `leaving[r]` of them go to rank r, `arriving[r]` come from there, in order of ranks.
  template <class T>
  std::vector<T> travel(const std::vector<T>& rows, const std::vector<int>& leaving, const std::vector<int>& arriving,
                        moue::index_t width) const {
    const auto places = [&](const std::vector<int>& counts) {
      std::vector<int> first(counts.size());
      std::exclusive_scan(counts.begin(), counts.end(), first.begin(), 0);
      return first;
    };
    MPI_Datatype row;
    MPI_Type_contiguous(static_cast<int>(width), std::is_same_v<T, float> ? MPI_FLOAT : MPI_INT32_T, &row);
    MPI_Type_commit(&row);
    const int n = std::reduce(arriving.begin(), arriving.end());
    std::vector<T> to(static_cast<std::size_t>(n * width));
    MPI_Alltoallv(rows.data(), leaving.data(), places(leaving).data(), row, to.data(), arriving.data(),
                  places(arriving).data(), row, ranks);
    MPI_Type_free(&row);
    return to;
  }

  moue::matrix_view<const float> read(const std::vector<float>& v) const {
    return {v.data(), std::ssize(v) / run.width(), run.width()};
  }
  moue::matrix_view<float> write(std::vector<float>& v) const {
    return {v.data(), std::ssize(v) / run.width(), run.width()};
  }
  static void clear(moue::matrix_view<float> m) {
    for (moue::index_t t = 0; t < m.rows; ++t) std::fill_n(m.row(t).data, m.cols, 0.0f);
  }
};
