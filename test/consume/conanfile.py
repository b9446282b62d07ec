# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the consumer from Conan's cache: conan create . --test-folder test/consume"""

from conan import ConanFile
from conan.tools.cmake import CMake, cmake_layout


class Consume(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeToolchain", "CMakeDeps"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def build(self):
        cmake = CMake(self)
        cmake.configure(variables={"CONSUME_IO": bool(self.dependencies["moue"].options.io)})
        cmake.build()

    def test(self):
        CMake(self).ctest(["--output-on-failure"])
