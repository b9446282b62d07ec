// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Reading and writing checkpoints. Needs the JSON library nlohmann-json; with CMake, link `moue::io`.

#include "moue/io/checkpoint.hpp"
#include "moue/io/gguf.hpp"
#include "moue/io/low_precision.hpp"
#include "moue/io/parameters.hpp"
#include "moue/io/safetensors.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "moue/io/schemes.hpp"
#include "moue/io/sharded.hpp"
#include "moue/io/verify.hpp"
