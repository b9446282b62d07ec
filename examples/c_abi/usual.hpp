// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One expert with each of three routers: what a file that includes this compiles.

#include <moue/any/erase.hpp>
#include <moue/moue.hpp>
#include <string>

#include "models.hpp"

template <class ExpertT>
shared_model make_usual(const ExpertT& expert, const usual_settings& s) {
  const moue::cpu backend = s.threads == 0 ? moue::cpu{} : moue::cpu{s.threads};
  const auto with = [&](const auto& router) -> shared_model {
    return moue::erase<float>(moue::mixture{expert, s.topology, router,
                                            moue::sum_of_losses{moue::switch_loss{.weight = s.switch_loss},
                                                                moue::universal_balance{.weight = s.universal_balance}},
                                            backend});
  };
  if (s.router == "softmax") return with(moue::linear_router(s.selected));
  if (s.router == "sigmoid")
    return with(moue::router{moue::linear_score{}, moue::top_k{s.selected}, moue::sigmoid_renormalised{}}.with(
        moue::sigmoid_probability{}));
  if (s.router == "universal") return with(moue::universal_router(s.selected));
  throw moue::error("usual", "no router is called '" + std::string(s.router) + "'",
                    "say softmax, sigmoid or universal");
}
