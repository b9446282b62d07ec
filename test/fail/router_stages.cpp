// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: compose a router from stages, as in 'moue::router\{score, select, gate\}'
#include "moue/backend/reference.hpp"
#include "moue/expert/copy.hpp"
#include "moue/mixture.hpp"
#include "moue/topology/shared_pool.hpp"

#ifdef MOUE_TEST_FIXED
using router = decltype(moue::linear_router(1));
#else
using router = moue::linear_score;
#endif

template class moue::mixture<moue::copy_expert, moue::shared_pool, router, moue::no_balancing, moue::reference>;
