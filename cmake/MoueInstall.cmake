# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/moue)

# The file sets carry the include path for CMake 3.23 and newer; older ones, and Meson, know that of INCLUDES alone.
install(
  TARGETS moue
  EXPORT moueTargets
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILE_SET special DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT moueTargets NAMESPACE moue:: DESTINATION ${package_dir})
if(TARGET moue_io)
  install(TARGETS moue_io EXPORT moueIoTargets FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT moueIoTargets NAMESPACE moue:: DESTINATION ${package_dir})
endif()

if(TARGET moue_cuda)
  install(TARGETS moue_cuda EXPORT moueCudaTargets)
  install(EXPORT moueCudaTargets NAMESPACE moue:: DESTINATION ${package_dir})
  install(FILES cmake/MoueCuda.cmake DESTINATION ${package_dir})
endif()

configure_package_config_file(cmake/moueConfig.cmake.in ${PROJECT_BINARY_DIR}/moueConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
# Below 1.0 a minor version may break its users.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moueConfigVersion.cmake COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/moueConfig.cmake ${PROJECT_BINARY_DIR}/moueConfigVersion.cmake
        DESTINATION ${package_dir})

# For builds without CMake. The paths in these files start from where they lie, so that the prefix may be moved.
set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
file(RELATIVE_PATH prefix_of_pkgconfig /${pkgconfig_dir} /)
string(REGEX REPLACE "/$" "" prefix_of_pkgconfig ${prefix_of_pkgconfig})
configure_file(cmake/moue.pc.in moue.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/moue.pc DESTINATION ${pkgconfig_dir})
if(TARGET moue_io)
  configure_file(cmake/moue-io.pc.in moue-io.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/moue-io.pc DESTINATION ${pkgconfig_dir})
endif()

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
