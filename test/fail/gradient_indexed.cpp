// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: the gradient of a parameter is written by 'ops.weight_gradient' and 'ops.column_sum', or by functors through the matrix that 'moue::accumulate\(ops, dp\[i\]\)' gives
#define MOUE_TEST_MISTAKE dp[0](0, 0) += 1
#include "gradient_as_matrix.cpp"
