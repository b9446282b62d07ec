// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// All that is not a backend: policies, mixtures and passes.

#include "moue/balance/sum_of_losses.hpp"
#include "moue/balance/switch_loss.hpp"
#include "moue/balance/universal_balance.hpp"
#include "moue/balance/z_loss.hpp"
#include "moue/executor.hpp"
#include "moue/expert/constant.hpp"
#include "moue/expert/copy.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/expert/input_gated.hpp"
#include "moue/expert/mlp.hpp"
#include "moue/expert/projected.hpp"
#include "moue/expert/recomputed.hpp"
#include "moue/expert/self_gated.hpp"
#include "moue/expert/zero.hpp"
#include "moue/mixture.hpp"
#include "moue/pass.hpp"
#include "moue/router/candidate_bias.hpp"
#include "moue/router/compose.hpp"
#include "moue/router/features.hpp"
#include "moue/router/group_limited.hpp"
#include "moue/router/logit_bias.hpp"
#include "moue/router/query_score.hpp"
#include "moue/router/sparsemixer.hpp"
#include "moue/topology/adjacent_reuse.hpp"
#include "moue/topology/always_on.hpp"
#include "moue/topology/layer_local.hpp"
#include "moue/topology/reuse_blocks.hpp"
#include "moue/topology/revisit.hpp"
#include "moue/topology/shared_pool.hpp"
#include "moue/topology/staggered_rotation.hpp"
#include "moue/topology/table.hpp"
#include "moue/version.hpp"
