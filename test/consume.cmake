# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0

# Builds and runs the project in consume/ the two ways users get the library: installed, and as a subdirectory.
set(prefix ${CMAKE_CURRENT_BINARY_DIR}/prefix)

function(moue_consumer_test way)
  set(build_dir ${CMAKE_CURRENT_BINARY_DIR}/consume_${way})
  add_test(
    NAME static.consume_${way}
    COMMAND
      ${CMAKE_CTEST_COMMAND} --build-and-test ${CMAKE_CURRENT_SOURCE_DIR}/consume ${build_dir}
      --build-generator ${CMAKE_GENERATOR} --build-options -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
      -DEigen3_DIR=${Eigen3_DIR} -Dnlohmann_json_DIR=${nlohmann_json_DIR} ${ARGN} --test-command
      ${CMAKE_CTEST_COMMAND} --output-on-failure)
  set_tests_properties(static.consume_${way} PROPERTIES LABELS static)
endfunction()

moue_consumer_test(subdirectory -DMOUE_CHECKOUT=${PROJECT_SOURCE_DIR})
if(MOUE_INSTALL)
  moue_consumer_test(package -Dmoue_ROOT=${prefix})
  # A stale prefix would hide a header that is no longer installed.
  add_test(NAME static.install COMMAND sh -c "rm -rf '${prefix}' && '${CMAKE_COMMAND}' --install '${PROJECT_BINARY_DIR}' --prefix '${prefix}'")
  set_tests_properties(static.install PROPERTIES LABELS static FIXTURES_SETUP moue_prefix)
  set_tests_properties(static.consume_package PROPERTIES FIXTURES_REQUIRED moue_prefix)
  if(MOUE_BUILD_CUDA)
    moue_consumer_test(cuda -Dmoue_ROOT=${prefix} -DCONSUME_CUDA=ON -DCONSUME_IO=OFF)
    set_tests_properties(static.consume_cuda PROPERTIES FIXTURES_REQUIRED moue_prefix)
  endif()
endif()
