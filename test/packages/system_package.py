# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Headers that Debian installed, as a package of Conan's cache, so that no server is asked: conan create --name eigen"""

from conan import ConanFile

# The include path that is not the compiler's own, and the names that CMake's packages have.
KNOWN = {
    "eigen": (["/usr/include/eigen3"], "Eigen3", "Eigen3::Eigen"),
    "nlohmann_json": ([], "nlohmann_json", "nlohmann_json::nlohmann_json"),
}


class SystemPackage(ConanFile):
    package_type = "header-library"

    def package_info(self):
        paths, file_name, target = KNOWN[self.name]
        self.cpp_info.includedirs = paths
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", file_name)
        self.cpp_info.set_property("cmake_target_name", target)
