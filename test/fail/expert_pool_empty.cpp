// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: an expert pool needs at least one kind of expert
#include "moue/expert.hpp"
#include "moue/expert/copy.hpp"

#ifdef MOUE_TEST_FIXED
template class moue::expert_pool<moue::copy_expert>;
#else
template class moue::expert_pool<>;
#endif
