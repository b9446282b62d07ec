// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What crosses from the files that know a composition to the one that speaks C.

#include <memory>
#include <moue/any.hpp>
#include <moue/topology/table.hpp>
#include <string_view>

/// A usual mixture in terms of C++: the topology is data.
struct usual_settings {
  std::string_view router;
  moue::index_t width, hidden, selected;
  moue::table topology;
  double switch_loss, universal_balance;
  int threads;
};

using shared_model = std::shared_ptr<const moue::any_model<float>>;

shared_model make_usual_swiglu(const usual_settings& settings);
shared_model make_usual_gelu(const usual_settings& settings);
shared_model make_frozen(moue::index_t width);
