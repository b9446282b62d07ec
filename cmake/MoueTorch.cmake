# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0

set(MOUE_TORCH_FOLDER "" CACHE PATH "The folder of Python's package torch, to use its libtorch; empty: find_package(Torch)")

# moue_find_torch(): makes the target moue_torch, where a libtorch is found. A wheel's own CMake package is not asked: that
# of a wheel for CUDA wants the toolkit of the same version, and it takes libc10 from the system where that has another one.
function(moue_find_torch)
  if(TARGET moue_torch)
    return()
  endif()
  if(NOT MOUE_TORCH_FOLDER)
    set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON) # for whoever links the target
    find_package(Torch QUIET)
    if(Torch_FOUND)
      add_library(moue_torch INTERFACE)
      target_link_libraries(moue_torch INTERFACE ${TORCH_LIBRARIES})
    endif()
    return()
  endif()
  add_library(moue_torch INTERFACE)
  target_include_directories(moue_torch SYSTEM INTERFACE ${MOUE_TORCH_FOLDER}/include
                                                         ${MOUE_TORCH_FOLDER}/include/torch/csrc/api/include)
  # What its libraries need in turn, they find themselves.
  target_link_libraries(moue_torch INTERFACE ${MOUE_TORCH_FOLDER}/lib/libtorch_cpu.so ${MOUE_TORCH_FOLDER}/lib/libc10.so)
  target_link_options(moue_torch INTERFACE -Wl,--allow-shlib-undefined)
endfunction()
