# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0


class Error(RuntimeError):
    """What the library refuses, in one sentence that ends with how to fix it."""

    kind: str = "misuse"
    """What a program can do about it: misuse, memory, numbers, file, content or system, as in moue/error.hpp."""
