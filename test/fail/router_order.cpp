// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-first-error: moue: the first stage of a router is its score; this is another stage \(the order is score,
// expected-error: moue: the second stage of a router is its select stage; this is another stage
#include "moue/router/compose.hpp"

#ifdef MOUE_TEST_FIXED
const moue::router mine{moue::linear_score{}, moue::top_k{2}, moue::softmax_of_selected{}};
#else
const moue::router mine{moue::top_k{2}, moue::linear_score{}, moue::softmax_of_selected{}};
#endif
