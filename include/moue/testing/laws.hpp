// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What each policy must mean, as checks for policies of your own: one call each, no test framework needed.
///
///     const auto report = moue::testing::check_expert_laws(my_expert{.width = 6});
///     if (!report) fail(report.summary());
///
/// A report names every law that broke, where, and with which numbers. Checks do not throw because of a broken law.

#include "moue/testing/backend_laws.hpp"
#include "moue/testing/balance_laws.hpp"
#include "moue/testing/expert_laws.hpp"
#include "moue/testing/extension_laws.hpp"
#include "moue/testing/model_laws.hpp"
#include "moue/testing/report.hpp"
#include "moue/testing/row_laws.hpp"
#include "moue/testing/select_laws.hpp"
#include "moue/testing/stage_laws.hpp"
#include "moue/testing/topology_laws.hpp"
