// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The backends of the library obey the laws, and the checks name the law that a faulty one breaks.

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/operations/gated_linear.hpp"
#include "moue/testing/backend_laws.hpp"

namespace {

void names(const moue::testing::law_report& report, const std::string& law) {
  CHECK_MESSAGE(!static_cast<bool>(report), law);
  CHECK_MESSAGE(report.broke(law), "'" << law << "' is not among the broken:\n" << report.summary());
}
void holds(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

enum class backend_fault {
  none,
  no_workers,
  linear_assigns,
  linear_adds_to_scratch,
  linear_rounds,
  linear_dense,
  linear_writes_beside,
  input_wrong,
  weight_assigned,
  sum_assigned,
  weight_added,
  sum_added,
  mark_ignored,
  sum_unsaid,
  gated_unsaved,
  gated_rounds,
  gated_in_blocks,
  gated_scale_forgotten,
  gated_sum_assigned,
  moody,
  last_row,
  last_element,
  plan_shuffled,
  expert_skipped,
  rows_lost,
  row_repeated,
  scratch_shared,
  kinds_mixed,
  block_wrong
};

struct faulty_operations {
  static constexpr bool reads_token_rows = true;

  backend_fault fault;
  int* asked;
  moue::reference_operations plain = {};

  bool has(backend_fault f) const { return fault == f; }
  template <class X, class W, class C>
  void linear(const X& x, const W& w, const moue::matrix_view<C>& y, moue::store mode = moue::store::assign) const {
    if (has(backend_fault::linear_assigns)) mode = moue::store::assign;
    if (has(backend_fault::linear_adds_to_scratch)) mode = moue::store::add;
    const W dense{w.data, w.rows, w.cols};
    plain.linear(x, has(backend_fault::linear_dense) ? dense : w, y, mode);
    if (has(backend_fault::linear_rounds))
      for (moue::index_t i = 0; i < y.rows; ++i)
        for (auto& v : y.row(i)) v = C(float(moue::bf16(float(v))));
    if (has(backend_fault::moody) && !y.empty()) y(0, 0) += C(++*asked);
    if (has(backend_fault::linear_writes_beside) && !y.empty()) y(0, y.cols) = 0;
  }
  template <class DY, class W, class C>
  void input_gradient(const DY& dy, const W& w, const moue::matrix_view<C>& dx,
                      moue::store mode = moue::store::assign) const {
    plain.input_gradient(dy, w, dx, mode);
    if (has(backend_fault::input_wrong) && !dx.empty()) dx(dx.rows - 1, 0) += 1;
  }
  template <class DY, class X, class C>
  void weight_gradient(const DY& dy, const X& x, const moue::matrix_view<C>& dw,
                       moue::store mode = moue::store::add) const {
    if (has(backend_fault::weight_assigned)) mode = moue::store::assign;
    if (has(backend_fault::weight_added)) mode = moue::store::add;
    plain.weight_gradient(dy, x, dw, mode);
  }
  template <class DY, class X, class C>
  void weight_gradient(const DY& dy, const X& x, const moue::gradient_target<C>& dw) const {
    plain.weight_gradient(dy, x, dw);
    if (has(backend_fault::mark_ignored) && !dw.empty()) plain.weight_gradient(dy, x, dw.values());
  }
  template <class X, class C>
  void column_sum(const X& x, const moue::matrix_view<C>& out, moue::store mode = moue::store::add) const {
    if (has(backend_fault::sum_assigned)) mode = moue::store::assign;
    if (has(backend_fault::sum_added)) mode = moue::store::add;
    plain.column_sum(x, out, mode);
  }
  template <class X, class C>
  void column_sum(const X& x, const moue::gradient_target<C>& out) const {
    if (!has(backend_fault::sum_unsaid)) return plain.column_sum(x, out);
    if (!out.empty()) plain.column_sum(x, out.values(), out.mode());
  }
  template <class X, class W, class A, class C>
  void gated_linear(const X& x, const W& w_gate, const W& w_up, const A& activation, const moue::matrix_view<C>& gate,
                    const moue::matrix_view<C>& up, const moue::matrix_view<C>& h) const {
    moue::gated_linear(plain, x, w_gate, w_up, activation, gate, up, h);
    if (h.empty()) return;
    if (has(backend_fault::gated_unsaved)) up(0, 0) = h(0, 0);
    if (has(backend_fault::gated_rounds)) h(0, 0) = C(float(moue::bf16(float(h(0, 0)))));
  }
  template <class DY, class W, class A, class C>
  void gated_linear_backward(const DY& dy, const W& w_down, const A& activation, const moue::matrix_view<const C>& gate,
                             const moue::matrix_view<const C>& up, const moue::vector_view<const C>& scale,
                             const moue::matrix_view<C>& h, const moue::matrix_view<C>& dgate,
                             const moue::matrix_view<C>& dup, const moue::vector_view<C>& dscale) const {
    if (has(backend_fault::gated_sum_assigned)) std::fill(dscale.begin(), dscale.end(), C(0));
    moue::gated_linear_backward(plain, dy, w_down, activation, gate, up, scale, h, dgate, dup, dscale);
    if (has(backend_fault::gated_scale_forgotten) && !h.empty()) h(0, 0) /= scale[0];
  }
  template <class F>
  void each_row(moue::index_t rows, const F& f) const {
    plain.each_row(has(backend_fault::last_row) && rows > 64 ? rows - 1 : rows, f);
  }
  template <class F>
  void each_element(moue::index_t rows, moue::index_t cols, const F& f) const {
    plain.each_element(rows, cols, f);
    if (has(backend_fault::last_element) && rows > 64) f(rows - 1, cols - 1);
  }
};

struct faulty_backend : moue::host_transfers {
  backend_fault fault;
  int* asked;

  bool has(backend_fault f) const { return fault == f; }
  moue::index_t workers() const { return has(backend_fault::no_workers) ? 0 : 1; }
  template <class C>
  faulty_operations operations(moue::matrix_view<C>) const {
    return {fault, asked};
  }
  template <class C>
  void dispatch(const moue::routing<C>& r, moue::dispatch_plan& plan) const {
    moue::make_plan(r, plan);
    if (has(backend_fault::plan_shuffled)) std::swap(plan.row_token[0], plan.row_token[1]);
  }
  template <class S>
  moue::block_needs needs(moue::index_t entries, moue::index_t, moue::index_t) const {
    return {.rows = entries};
  }
  template <class S, class C, class Body>
  void each_block(const moue::dispatch_plan& plan, moue::index_t, moue::vector_view<const std::int32_t> kinds,
                  moue::index_t, const moue::block_scratch<C>& scratch, const Body& body) const {
    const faulty_operations ops{has(backend_fault::block_wrong)       ? backend_fault::linear_rounds
                                : has(backend_fault::gated_in_blocks) ? backend_fault::gated_rounds
                                                                      : backend_fault::none,
                                asked};
    for (moue::index_t e = has(backend_fault::expert_skipped) ? 1 : 0; e < plan.experts(); ++e) {
      moue::plan_block at{plan.expert_offsets[e], plan.expert_rows(e)};
      if (at.rows == 0) continue;
      if (has(backend_fault::rows_lost)) at.rows -= at.rows / 2;
      if (has(backend_fault::scratch_shared)) at.scratch = scratch.gathered.rows;
      const moue::index_t kind = has(backend_fault::kinds_mixed) ? 0 : kinds[e];
      const auto run = [&] { body(moue::block_operations<faulty_operations, C>(ops, plan, at, e, {}), kind, at); };
      run();
      if (has(backend_fault::row_repeated)) {
        at.rows = 1;
        run();
      }
    }
  }
};

}  // namespace

TEST_CASE("backends obey the laws") {
  holds(moue::testing::check_backend_laws(moue::cpu{}));
  holds(moue::testing::check_backend_laws(moue::cpu{1}));
  holds(moue::testing::check_backend_laws(moue::cpu{3}));
  holds(moue::testing::check_backend_laws(moue::reference{}));
}

TEST_CASE("faults of backends are named") {
  int asked = 0;
  const auto check = [&](backend_fault fault) {
    return moue::testing::check_backend_laws(faulty_backend{{}, fault, &asked});
  };
  holds(check(backend_fault::none));
  names(check(backend_fault::no_workers), "there is a worker");
  names(check(backend_fault::linear_assigns), "linear agrees with plain loops");
  names(check(backend_fault::linear_adds_to_scratch), "linear agrees with plain loops");
  names(check(backend_fault::linear_rounds), "linear agrees with plain loops");
  names(check(backend_fault::linear_dense), "linear agrees with plain loops");
  names(check(backend_fault::linear_writes_beside), "nothing is written beside the outputs");
  names(check(backend_fault::input_wrong), "input_gradient agrees with plain loops");
  names(check(backend_fault::weight_assigned), "weight_gradient agrees with plain loops");
  names(check(backend_fault::sum_assigned), "column_sum agrees with plain loops");
  names(check(backend_fault::weight_added), "weight_gradient agrees with plain loops");
  names(check(backend_fault::sum_added), "column_sum agrees with plain loops");
  names(check(backend_fault::mark_ignored), "weight_gradient agrees with plain loops");
  names(check(backend_fault::sum_unsaid), "products with a target say that they wrote it");
  names(check(backend_fault::gated_unsaved), "gated_linear agrees with plain loops");
  names(check(backend_fault::gated_rounds), "gated_linear agrees with plain loops");
  names(check(backend_fault::gated_in_blocks), "operations of a block agree with plain loops");
  names(check(backend_fault::gated_scale_forgotten), "gated_linear_backward agrees with plain loops");
  names(check(backend_fault::gated_sum_assigned), "gated_linear_backward agrees with plain loops");
  names(check(backend_fault::moody), "linear repeats itself bit for bit");
  names(check(backend_fault::last_row), "each_row visits every row once");
  names(check(backend_fault::last_element), "each_element visits every element once");
  names(check(backend_fault::plan_shuffled), "dispatch fills the plan of make_plan");
  names(check(backend_fault::expert_skipped), "each_block visits every row once");
  names(check(backend_fault::rows_lost), "each_block visits every row once");
  names(check(backend_fault::row_repeated), "each_block visits every row once");
  names(check(backend_fault::scratch_shared), "a block has as many rows of scratch as rows");
  names(check(backend_fault::kinds_mixed), "a block holds experts of one kind");
  names(check(backend_fault::block_wrong), "operations of a block agree with plain loops");
}
