# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0

# moue_program(<target> <source>...): an executable for this machine.
function(moue_program target)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE moue::moue)
  if(MOUE_NATIVE)
    target_compile_options(${target} PRIVATE -march=native)
  endif()
endfunction()

# Returns from the file or function that calls it if MOUE_TESTS_LEFT_OUT names the test.
macro(moue_return_if_left_out test)
  if("${test}" MATCHES "^(${MOUE_TESTS_LEFT_OUT})$")
    return()
  endif()
endmacro()

# moue_example(<name> <source>...): an executable that is also the test `example.<name>`. Where <name>.expected exists
# the output has to equal it, byte for byte; fused multiply-adds would change the digits from machine to machine. Sources
# that read files are left out where moue::io is, and all that MOUE_TESTS_LEFT_OUT names.
function(moue_example name)
  moue_return_if_left_out(example.${name})
  if(NOT TARGET moue::io)
    foreach(source IN LISTS ARGN)
      file(STRINGS ${source} io_include REGEX "#include <moue/io[./]" LIMIT_COUNT 1)
      if(io_include)
        return()
      endif()
    endforeach()
  endif()
  set(target example_${name})
  set(expected ${CMAKE_CURRENT_SOURCE_DIR}/${name}.expected)
  set(command ${target})
  if(EXISTS ${expected})
    set(MOUE_NATIVE OFF)
    set(command ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:${target}> -DEXPECTED=${expected} -P
                ${PROJECT_SOURCE_DIR}/cmake/compare_output.cmake)
  endif()
  moue_program(${target} ${ARGN})
  if(TARGET moue::io)
    target_link_libraries(${target} PRIVATE moue::io)
  endif()
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name})
  add_test(NAME example.${name} COMMAND ${command})
  set_tests_properties(example.${name} PROPERTIES LABELS example)
endfunction()
