// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Policies with one fault each: the checks of laws must name the law that broke. Here: topologies and experts.

#include <doctest/doctest.h>

#include <array>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "moue/testing/expert_laws.hpp"
#include "moue/testing/topology_laws.hpp"

namespace {

void names(const moue::testing::law_report& report, const std::string& law) {
  CHECK_MESSAGE(!static_cast<bool>(report), law);
  CHECK_MESSAGE(report.broke(law), "'" << law << "' is not among the broken:\n" << report.summary());
}

}  // namespace

TEST_CASE("a report counts, keeps the first breach and catches what is thrown") {
  moue::testing::law_report report("thing");
  int built = 0;
  const auto detail = [&](const char* text) {
    return [&built, text] {
      ++built;
      return std::string(text);
    };
  };
  report.expect("one", true, detail("never"));
  report.expect("two", true, detail("never"));
  CHECK(static_cast<bool>(report));
  CHECK(report.summary() == "thing: all 2 laws hold");
  report.expect("two", false, detail("first"));
  report.expect("two", false, detail("second"));
  report.expect("two", true, detail("never"));
  CHECK(built == 1);
  CHECK_FALSE(static_cast<bool>(report));
  CHECK(report.broke("two"));
  CHECK_FALSE(report.broke("one"));
  CHECK_FALSE(report.broke("three"));
  report.note("by the way");
  CHECK(report.summary() == "thing: 1 of 2 laws broken\n  broken: two: first\n  note: by the way");
  report.attempt("calm", [] {});
  CHECK_FALSE(report.broke("nothing is thrown"));
  report.attempt("rash", [] { throw std::runtime_error("boom"); });
  report.attempt("rude", [] { throw 7; });
  CHECK(report.broke("nothing is thrown"));
  CHECK(report.laws().back().detail == "rash: boom");
}

namespace {

enum class topology_fault { none, beyond, negative, twice, empty, moody, always_twice, tie_later, no_layers, throws };

struct faulty_topology {
  topology_fault fault;
  int* asked;

  moue::index_t layers() const { return fault == topology_fault::no_layers ? 0 : 3; }
  moue::index_t experts() const { return 4; }
  void candidates(moue::index_t layer, auto append) const {
    if (fault == topology_fault::throws) throw std::runtime_error("no");
    if (fault == topology_fault::empty && layer == 1) return;
    append(layer);
    append(fault == topology_fault::beyond     ? moue::index_t{4}
           : fault == topology_fault::negative ? moue::index_t{-1}
           : fault == topology_fault::twice    ? layer
           : fault == topology_fault::moody    ? moue::index_t{(layer + 1 + ++*asked % 2) % 4}
                                               : layer + 1);
  }
  void always(moue::index_t layer, auto append) const {
    if (fault == topology_fault::always_twice) append(layer);
  }
  moue::index_t parameter_layer(moue::index_t layer) const { return fault == topology_fault::tie_later ? 2 : layer; }
};

}  // namespace

TEST_CASE("faults of topologies are named") {
  int asked = 0;
  const auto check = [&](topology_fault fault) {
    return moue::testing::check_topology_laws(faulty_topology{fault, &asked});
  };
  CHECK(static_cast<bool>(check(topology_fault::none)));
  names(check(topology_fault::beyond), "ids are in range");
  names(check(topology_fault::negative), "ids are in range");
  names(check(topology_fault::twice), "ids are distinct in a layer");
  names(check(topology_fault::always_twice), "ids are distinct in a layer");
  names(check(topology_fault::empty), "every layer has a candidate");
  names(check(topology_fault::moody), "the answer depends on the arguments alone");
  names(check(topology_fault::moody), "exposure is the number of layers that connect");
  names(check(topology_fault::tie_later), "routers are tied to an earlier layer with as many candidates");
  names(check(topology_fault::no_layers), "there is a layer and an expert");
  names(check(topology_fault::throws), "nothing is thrown");
  CHECK(check(topology_fault::beyond).summary().find("layer 0 names expert 4 of 4") != std::string::npos);
}

namespace {

enum class expert_fault {
  none,
  no_width,
  no_name,
  forward_adds,
  forward_reads_scratch,
  forward_writes_beside,
  rows_meet,
  tokens_in_order,
  experts_meet,
  widened_twice,
  dx_wrong,
  dx_added,
  dx_reads_scratch,
  dp_wrong,
  dp_assigned,
  dp_not_cleared,
  dp_assumed,
  dgate_wrong,
  dgate_divided,
  forms_differ,
  backward_writes_beside,
  row_zero_assumed,
  throws
};

/// y = scale x², row by row and element by element.
struct faulty_expert {
  moue::index_t width;
  expert_fault fault;

  bool has(expert_fault f) const { return fault == f; }
  auto parameters() const {
    return std::array{moue::parameter_spec{has(expert_fault::no_name) ? "" : "scale", 1, width,
                                           moue::initializer::constant(1), moue::scope::expert}};
  }
  auto saved() const { return std::array{width}; }
  auto temporaries() const { return std::array{width}; }

  template <class C>
  void forward(const auto&, const auto& p, const auto& x, const auto& saved, const auto& temporary,
               moue::matrix_view<C> y) const {
    using W = typename std::remove_cvref_t<decltype(p[0])>::value_type;
    if (has(expert_fault::throws)) throw std::runtime_error("no");
    for (moue::index_t i = 0; i < x.rows; ++i)
      for (moue::index_t j = 0; j < x.cols; ++j) {
        C scale = static_cast<C>(p[0].for_row(has(expert_fault::experts_meet) ? 0 : i)(0, j));
        if (has(expert_fault::widened_twice) && !std::is_same_v<W, C>) scale *= 2;
        const C in = has(expert_fault::tokens_in_order) ? static_cast<C>(x.of(i, j)) : x(i, j);
        saved[0](i, j) = in * in;
        C value = scale * saved[0](i, j);
        if (has(expert_fault::forward_reads_scratch) && temporary[0](i, j) > 0) value += 1;
        if (has(expert_fault::rows_meet)) value += x(0, j);
        y(i, j) = has(expert_fault::forward_adds) ? y(i, j) + value : value;
        if (has(expert_fault::forward_writes_beside)) y(i, y.cols) = 0;
      }
  }
  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                moue::matrix_view<const C> dy, moue::matrix_view<C> dx, const auto& dp) const {
    const bool wanted = !dp[0].empty();
    const auto held = has(expert_fault::dp_not_cleared) && wanted ? dp[0].values() : moue::accumulate(ops, dp[0]);
    if (has(expert_fault::dp_not_cleared) && wanted) dp[0].set_written();
    if (has(expert_fault::row_zero_assumed) && wanted) held.of(0)(0, 0) += 1;
    for (moue::index_t i = 0; i < x.rows; ++i)
      for (moue::index_t j = 0; j < x.cols; ++j) {
        C slope = (has(expert_fault::dx_wrong) ? 3 : 2) * dy(i, j) * p[0].for_row(i)(0, j) * x(i, j);
        if (has(expert_fault::dx_reads_scratch) && temporary[0](i, j) < 0) slope += 1;
        dx(i, j) = has(expert_fault::dx_added) ? dx(i, j) + slope : slope;
        const C part = (has(expert_fault::dp_wrong) ? 2 : 1) * dy(i, j) * saved[0](i, j);
        if (!wanted && has(expert_fault::dp_assumed)) dx(i, j) = 0;
        if (wanted) {
          C& sum = held.for_row(i)(0, j);
          sum = has(expert_fault::dp_assigned) && i == 0 ? part : sum + part;
        }
        if (has(expert_fault::backward_writes_beside)) dx(i, dx.cols) = 0;
      }
  }
  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                moue::gated_gradient<C, T> out, moue::matrix_view<C> dx, const auto& dp) const {
    moue::testing::detail::watched<C> dy(x.rows, x.cols);
    for (moue::index_t i = 0; i < x.rows; ++i) {
      const C gate = out.gate[i];
      out.dgate[i] = C(0);
      for (moue::index_t j = 0; j < x.cols; ++j) {
        dy(i, j) = has(expert_fault::forms_differ) ? out.dy(i, j) : gate * out.dy(i, j);
        const C output = (has(expert_fault::dgate_wrong) ? C(1) : p[0].for_row(i)(0, j)) * saved[0](i, j);
        out.dgate[i] += has(expert_fault::dgate_divided) ? dy(i, j) * output / gate : out.dy(i, j) * output;
      }
    }
    backward<C>(ops, p, x, saved, temporary, std::as_const(dy).view(), dx, dp);
  }
};

}  // namespace

TEST_CASE("faults of experts are named") {
  const auto check = [](expert_fault fault) { return moue::testing::check_expert_laws(faulty_expert{4, fault}); };
  const auto sound = check(expert_fault::none);
  CHECK_MESSAGE(static_cast<bool>(sound), sound.summary());
  names(moue::testing::check_expert_laws(faulty_expert{0, expert_fault::none}), "the width is positive");
  names(check(expert_fault::no_name), "parameters have names of their own and sizes that are not negative");
  names(check(expert_fault::forward_adds), "forward assigns y from x and the parameters");
  names(check(expert_fault::forward_reads_scratch), "forward reads no scratch it did not write and repeats itself");
  names(check(expert_fault::forward_writes_beside), "nothing is written beside the outputs");
  names(check(expert_fault::rows_meet), "rows are independent");
  names(check(expert_fault::tokens_in_order), "rows are independent");
  names(check(expert_fault::experts_meet), "dp agrees with central differences");
  names(check(expert_fault::widened_twice), "weights may be stored in a narrower type");
  names(check(expert_fault::dx_wrong), "dx agrees with central differences");
  names(check(expert_fault::dx_added), "backward assigns dx");
  names(check(expert_fault::dx_reads_scratch), "backward reads no scratch it did not write and repeats itself");
  names(check(expert_fault::dp_wrong), "dp agrees with central differences");
  names(check(expert_fault::dp_assigned), "backward adds to dp");
  names(check(expert_fault::dp_not_cleared), "backward assigns gradients that hold nothing");
  names(check(expert_fault::dp_assumed), "any gradient of a parameter may be unwanted");
  names(check(expert_fault::dgate_wrong), "dgate is <dy, y>");
  names(check(expert_fault::dgate_divided), "dgate is <dy, y>");
  names(check(expert_fault::forms_differ), "both forms of backward agree");
  names(check(expert_fault::backward_writes_beside), "nothing is written beside the outputs");
  names(check(expert_fault::row_zero_assumed), "zero rows are legal and change nothing");
  names(check(expert_fault::throws), "nothing is thrown");
}

TEST_CASE("a wrong gradient is reported with its place and both numbers") {
  const auto text = moue::testing::check_expert_laws(faulty_expert{4, expert_fault::dx_wrong}).summary();
  CHECK(text.find("d x (gated form)(0, 0) is ") != std::string::npos);
  CHECK(text.find(", central differences give ") != std::string::npos);
}

TEST_CASE("a fault in one entry of a large parameter is seen") {
  moue::testing::law_report report("gradient");
  moue::testing::detail::numbers w(40, 50), d(40, 50);
  w.randomise(1);
  d.each([&](double& v, moue::index_t i, moue::index_t j) { v = 2 * w(i, j); });
  const auto square = [&] { return moue::testing::detail::dot(w, w); };
  moue::testing::detail::expect_gradient(report, "gradient", "w", w, d, square);
  CHECK_MESSAGE(static_cast<bool>(report), report.summary());
  d(17, 23) += 1;
  moue::testing::detail::expect_gradient(report, "gradient", "w", w, d, square);
  CHECK(report.broke("gradient"));
}
