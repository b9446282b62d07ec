# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0

# Runs PROGRAM, by LAUNCHER if given, and fails unless it succeeds and prints exactly the content of EXPECTED.
set(actual ${PROGRAM}.actual)
execute_process(COMMAND ${LAUNCHER} ${PROGRAM} OUTPUT_FILE ${actual} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with status ${status}")
endif()
execute_process(COMMAND diff -u ${EXPECTED} ${actual} RESULT_VARIABLE differs)
if(NOT differs EQUAL 0)
  message(FATAL_ERROR "the output differs from ${EXPECTED}")
endif()
