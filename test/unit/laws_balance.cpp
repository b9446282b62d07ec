// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Policies with one fault each: the checks of laws must name the law that broke. Here: balancing losses.

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "moue/balance/switch_loss.hpp"
#include "moue/balance/z_loss.hpp"
#include "moue/testing/balance_laws.hpp"

namespace {

void names(const moue::testing::law_report& report, const std::string& law) {
  CHECK_MESSAGE(!static_cast<bool>(report), law);
  CHECK_MESSAGE(report.broke(law), "'" << law << "' is not among the broken:\n" << report.summary());
}
void holds(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

enum class loss_fault {
  none,
  wrong,
  assigned,
  writes_beside,
  by_name,
  by_place,
  divides,
  moody,
  scale_ignored,
  by_order,
  closed_moves,
  naive
};

/// `switch_loss` with a fault.
struct faulty_depth_loss {
  loss_fault fault;
  int* asked;

  bool has(loss_fault f) const { return fault == f; }
  template <class C>
  C value(const moue::depth_statistics<C>& s) const {
    C sum = moue::switch_loss{1}.value(s);
    if (has(loss_fault::by_name)) sum += s.expert_share[0];
    if (has(loss_fault::by_place)) sum += s.probability[0];
    if (has(loss_fault::divides)) sum /= s.expert_share[1];
    if (has(loss_fault::moody)) sum += C(++*asked);
    return sum;
  }
  template <class C>
  void gradient(const moue::depth_statistics<C>& s, moue::vector_view<C> d) const {
    if (has(loss_fault::assigned))
      for (auto& v : d) v = 0;
    moue::switch_loss{has(loss_fault::wrong) ? 1.001 : 1}.gradient(s, d);
    if (has(loss_fault::by_place)) d[0] += 1;
    if (has(loss_fault::writes_beside)) d.data[d.size] = 0;
  }
};

/// `z_loss` with a fault.
struct faulty_token_loss {
  loss_fault fault;

  bool has(loss_fault f) const { return fault == f; }
  template <class C>
  C token_value(moue::vector_view<const C> logits, moue::vector_view<const C> p) const {
    if (has(loss_fault::by_order)) return logits[0];
    if (has(loss_fault::naive)) return std::log(p[0]);
    return moue::z_loss{1}.token_value(logits, p);
  }
  template <class C>
  void token_gradient(moue::vector_view<const C> logits, moue::vector_view<const C> p, C scale,
                      moue::vector_view<C> d) const {
    if (has(loss_fault::assigned))
      for (auto& v : d) v = 0;
    moue::z_loss{has(loss_fault::wrong) ? 1.001 : 1}.token_gradient(logits, p,
                                                                    has(loss_fault::scale_ignored) ? C(1) : scale, d);
    if (has(loss_fault::closed_moves)) d[1] += std::isinf(logits[1]) ? 1 : 0;
    if (has(loss_fault::writes_beside)) d.data[d.size] = 0;
  }
};

}  // namespace

TEST_CASE("faults of depth losses are named") {
  int asked = 0;
  const auto check = [&](loss_fault fault) {
    return moue::testing::check_balance_laws(faulty_depth_loss{fault, &asked});
  };
  holds(check(loss_fault::none));
  names(check(loss_fault::wrong), "gradient agrees with central differences");
  names(check(loss_fault::assigned), "gradient adds");
  names(check(loss_fault::writes_beside), "nothing is written beside the gradient");
  names(check(loss_fault::by_name), "names and order of experts do not matter");
  names(check(loss_fault::by_place), "names and order of experts do not matter");
  names(check(loss_fault::divides), "a batch without tokens is legal");
  names(check(loss_fault::moody), "the order of tokens does not matter");
  names(check(loss_fault::moody), "padding does not matter");
}

TEST_CASE("faults of token losses are named") {
  const auto check = [](loss_fault fault) { return moue::testing::check_balance_laws(faulty_token_loss{fault}); };
  holds(check(loss_fault::none));
  names(check(loss_fault::wrong), "token_gradient agrees with central differences");
  names(check(loss_fault::assigned), "token_gradient adds");
  names(check(loss_fault::scale_ignored), "token_gradient is multiplied by scale");
  names(check(loss_fault::writes_beside), "nothing is written beside the gradient");
  names(check(loss_fault::by_order), "the order of a row does not matter");
  names(check(loss_fault::closed_moves), "a closed candidate gets no gradient");
  names(check(loss_fault::naive), "a row without open candidates is legal");
}
