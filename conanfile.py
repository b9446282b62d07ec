# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""The recipe for Conan 2: conan create . [-o "moue/*:io=False"]"""

import pathlib
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain, CMakeDeps, cmake_layout
from conan.tools.files import copy


class Moue(ConanFile):
    name = "moue"
    description = "Mixture-of-universal-experts building blocks"
    license = "Apache-2.0"
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"io": [True, False]}
    default_options = {"io": True}
    exports_sources = "CMakeLists.txt", "cmake/*", "include/*", "LICENSE"
    no_copy_source = True

    def set_version(self):
        header = (pathlib.Path(self.recipe_folder) / "include/moue/version.hpp").read_text()
        self.version = ".".join(re.search(rf"version_{part} = (\d+);", header)[1] for part in ("major", "minor", "patch"))

    def requirements(self):
        self.requires("eigen/[>=3.4 <4]", transitive_headers=True)
        if self.options.io:
            self.requires("nlohmann_json/[>=3 <4]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        for part in ("TESTS", "EXAMPLES", "BENCH", "CUDA"):
            toolchain.cache_variables[f"MOUE_BUILD_{part}"] = False
        toolchain.cache_variables["MOUE_IO"] = bool(self.options.io)
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, str(pathlib.Path(self.package_folder) / "licenses"))

    def package_id(self):
        del self.info.settings.os, self.info.settings.arch, self.info.settings.compiler, self.info.settings.build_type

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "moue")
        core = self.cpp_info.components["core"]
        core.set_property("cmake_target_name", "moue::moue")
        core.set_property("pkg_config_name", "moue")
        core.requires = ["eigen::eigen"]
        core.bindirs = core.libdirs = []
        if self.settings.os in ("Linux", "FreeBSD"):
            core.system_libs = ["pthread"]
        if self.options.io:
            io = self.cpp_info.components["io"]
            io.set_property("cmake_target_name", "moue::io")
            io.set_property("pkg_config_name", "moue-io")
            io.requires = ["core", "nlohmann_json::nlohmann_json"]
            io.bindirs = io.libdirs = []
