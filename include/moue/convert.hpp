// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Front door of conversion: a mixture of experts becomes a mixture of universal experts, and back.

#include "moue/convert/carry.hpp"
#include "moue/convert/moe_to_moue.hpp"
#include "moue/convert/plan.hpp"
#include "moue/convert/rows.hpp"
#include "moue/convert/schedule.hpp"
#include "moue/convert/universal.hpp"
#include "moue/router/extended_score.hpp"
