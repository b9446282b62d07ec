# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0

# The CUDA backend on a host: unit/cuda_<name>.cpp needs the headers of the CUDA Toolkit, no compiler of its own.
find_package(CUDAToolkit QUIET)
find_path(MOUE_CCCL_INCLUDE_DIR thrust/for_each.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES cccl)
find_path(MOUE_CUDA_INCLUDE_DIR vector_types.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT MOUE_CCCL_INCLUDE_DIR OR NOT MOUE_CUDA_INCLUDE_DIR)
  message(STATUS "The headers of the CUDA Toolkit are not installed: the tests of its backend are left out")
  return()
endif()

# moue_emulated_settings(<target> CPP|OMP): Thrust on that system of the host.
function(moue_emulated_settings target system)
  target_include_directories(${target} SYSTEM PRIVATE ${MOUE_CCCL_INCLUDE_DIR} ${MOUE_CUDA_INCLUDE_DIR})
  target_compile_definitions(${target} PRIVATE THRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_${system})
  target_compile_options(${target} PRIVATE -fno-sanitize=null ${quick_options}) # Thrust binds references to null tags
  target_link_libraries(${target} PRIVATE test_main)
  if(system STREQUAL "OMP")
    target_link_libraries(${target} PRIVATE OpenMP::OpenMP_CXX)
  endif()
endfunction()

add_library(emulated_CPP STATIC support/compositions_emulated.cpp support/compositions_public_emulated.cpp)
moue_emulated_settings(emulated_CPP CPP)

add_custom_target(emulated_tests)
set(files ${unit_tests})
list(FILTER files INCLUDE REGEX "/cuda_[^/]*$")
foreach(file IN LISTS files)
  cmake_path(GET file STEM name)
  add_executable(test_${name} ${file})
  target_link_libraries(test_${name} PRIVATE emulated_CPP)
  moue_emulated_settings(test_${name} CPP)
  add_test(NAME unit.${name} COMMAND test_${name} --no-intro)
  set_tests_properties(unit.${name} PROPERTIES LABELS unit)
  add_dependencies(emulated_tests test_${name})
endforeach()

# On all threads as well: an executor in every configuration, whole training steps in one.
find_package(OpenMP COMPONENTS CXX)
function(moue_add_omp_test name)
  add_executable(test_${name}_omp unit/${name}.cpp)
  moue_emulated_settings(test_${name}_omp OMP)
  add_test(NAME unit.${name}_omp COMMAND test_${name}_omp --no-intro)
  set_tests_properties(unit.${name}_omp PROPERTIES LABELS unit)
  add_dependencies(emulated_tests test_${name}_omp)
endfunction()
if(OpenMP_CXX_FOUND)
  moue_add_omp_test(cuda_executor)
  if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT "cuda_train" MATCHES "^(${MOUE_TESTS_LEFT_OUT})$")
    moue_add_omp_test(cuda_train)
  endif()
endif()
