// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-first-error: moue: the first argument of mixture is an expert; this is a topology
// expected-error: moue: the second argument of mixture is a topology; this is an expert
// expected-error: moue: the fourth argument of mixture is a balancing loss; this is a backend: put 'moue::no_balancing
#include "moue/backend/reference.hpp"
#include "moue/expert/copy.hpp"
#include "moue/mixture.hpp"
#include "moue/topology/shared_pool.hpp"

const moue::copy_expert expert{4};
const moue::shared_pool topology{1, 2};

#ifdef MOUE_TEST_FIXED
const moue::mixture one{expert, topology, moue::linear_router(1), moue::no_balancing{}, moue::reference{}};
const moue::mixture two{expert, topology, moue::linear_router(1), moue::no_balancing{}, moue::reference{}};
#else
const moue::mixture one{topology, expert, moue::linear_router(1), moue::no_balancing{}, moue::reference{}};
const moue::mixture two{expert, topology, moue::linear_router(1), moue::reference{}};
#endif
