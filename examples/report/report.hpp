// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the examples write for people and for scripts: pictures as SVG, numbers as JSON.

#include "curves.hpp"
#include "heat_map.hpp"
#include "json.hpp"
#include "topology.hpp"
