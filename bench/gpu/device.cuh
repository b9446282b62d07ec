// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The chip that is measured on, and the options of the programs here.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "clock.cuh"
#include "moue/scalar.hpp"
#include "results.hpp"
#include "shapes.hpp"

namespace bench {

struct options {
  std::vector<index_t> tokens;      // none: what the program measures unasked
  std::vector<std::string> shapes;  // none: all
  std::string type = "bf16", out;
  double tflops = 0, gigabytes = 0;  // of the chip, if it is not known here
  bool cold = false, quick = false;

  effort how_often() const { return quick ? effort{.least = 5, .most = 50, .seconds = 0.1} : effort{}; }
  std::vector<index_t> tokens_or(std::span<const index_t> unasked) const {
    return tokens.empty() ? std::vector<index_t>(unasked.begin(), unasked.end()) : tokens;
  }
  bool wants(std::string_view name) const {
    for (const auto& s : shapes)
      if (s == name) return true;
    return shapes.empty();
  }
};

inline options read_options(int argc, char** argv) {
  options o;
  constexpr const char* usage =
      "options: [--type bf16|float] [--tokens N]... [--shape NAME]... [--out FILE] [--cold] [--quick]\n"
      "         [--tflops N] [--gigabytes N]   (of the chip, if it is none of those known)\n";
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    const auto value = [&] {
      if (++i == argc) throw std::invalid_argument(std::string(flag) + " needs a value\n" + usage);
      return std::string(argv[i]);
    };
    if (flag == "--cold") {
      o.cold = true;
    } else if (flag == "--quick") {
      o.quick = true;
    } else if (flag == "--type") {
      o.type = value();
      if (o.type != "bf16" && o.type != "float") throw std::invalid_argument("no type is called " + o.type);
    } else if (flag == "--tokens") {
      o.tokens.push_back(std::stol(value()));
    } else if (flag == "--shape") {
      o.shapes.push_back(value());
    } else if (flag == "--out") {
      o.out = value();
    } else if (flag == "--tflops") {
      o.tflops = std::stod(value());
    } else if (flag == "--gigabytes") {
      o.gigabytes = std::stod(value());
    } else {
      throw std::invalid_argument("unknown option " + std::string(flag) + "\n" + usage);
    }
  }
  return o;
}

inline constexpr int no_device = 77;

/// One line, and false, where there is none.
inline bool find_device() {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found == cudaSuccess && devices > 0) return true;
  std::printf("no CUDA device: %s\n", found != cudaSuccess ? cudaGetErrorString(found) : "the driver sees none");
  return false;
}

inline std::string device_name() {
  int device = 0;
  check(cudaGetDevice(&device), "looking for a device");
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "asking for a device's properties");
  return properties.name;
}

/// Rates as the vendor states them, dense: 16-bit factors with float sums, or float without TF32.
inline chip chip_of(const options& o, const std::string& name) {
  struct known {
    const char* part;  // of the name
    double tensor, plain, bytes;
  };
  constexpr known all[] = {
      {"H200", 989e12, 67e12, 4.8e12},     {"H100 PCIe", 756e12, 51e12, 2.0e12},
      {"H100 NVL", 835e12, 60e12, 3.9e12}, {"H100", 989e12, 67e12, 3.35e12},
      {"B200", 2250e12, 75e12, 8e12},      {"A100-SXM4-80GB", 312e12, 19.5e12, 2.039e12},
      {"A100", 312e12, 19.5e12, 1.555e12},
  };
  chip c{o.tflops * 1e12, o.gigabytes * 1e9};
  for (const auto& k : all) {
    if (name.find(k.part) == std::string::npos) continue;
    if (c.flops == 0) c.flops = o.type == "float" ? k.plain : k.tensor;
    if (c.bytes == 0) c.bytes = k.bytes;
    break;
  }
  if (c.flops == 0 || c.bytes == 0)
    throw std::runtime_error("the rates of " + name + " are not known here; pass --tflops and --gigabytes");
  return c;
}

inline double free_bytes() {
  std::size_t free = 0, all = 0;
  check(cudaMemGetInfo(&free, &all), "asking for free memory");
  return static_cast<double>(free);
}

/// Rounding that the results of a layer may show against double.
template <class S>
constexpr double tolerance = sizeof(S) == 2 ? 1e-2 : 1e-5;

/// The times of what `queue` queues, as a line of the report. What copies from or to the host is not for graphs, which
/// would copy again what may be gone.
template <class F>
result measure(const options& o, cudaStream_t stream, const cache_flush& flush, result r, const F& queue,
               bool replayed = true) {
  r.eager_us = median_us(stream, flush, o.how_often(), queue);
  if (!replayed) return r;
  if (const auto graph = captured::of(stream, queue)) {
    r.launches = graph->nodes();
    r.graph_us = median_us(stream, flush, o.how_often(), [&] { graph->launch(stream); });
  }
  return r;
}

/// Prints a result and appends it to the file.
inline void report(const options& o, const result& r) {
  const double us = r.best_us();
  std::printf(
      "%-10s E=%-4ld T=%-6ld %-17s %-15s eager %10.1f us  graph %10.1f us  %7.1f TFLOP/s  %5.2f of the floor  "
      "%4ld launches  %8.1f MB scratch  error %.1e%s\n",
      r.shape.c_str(), r.experts, r.tokens, r.scope.c_str(), r.implementation.c_str(), r.eager_us, r.graph_us,
      r.flops / us * 1e-6, r.floor_us / us, r.launches, r.scratch_bytes * 1e-6, r.error,
      r.counts() ? "" : "  DOES NOT COUNT");
  std::fflush(stdout);
  if (!o.out.empty()) append_line(o.out, to_line(r));
}

/// Says why there is no figure.
inline void report_missing(const options& o, std::string_view kind, const std::string& what, const std::string& why) {
  const std::string line = std::string(kind) + what + ": " + why;
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
  if (!o.out.empty()) append_line(o.out, line);
}
/// Measures, or says why it cannot be done. What the device lacks memory for belongs to `left_out`, all else is a failure.
template <class F>
void attempt(const options& o, const std::string& what, double bytes, const F& measure_it) {
  if (bytes > 0.95 * free_bytes())
    return report_missing(o, left_out, what, std::to_string(static_cast<long>(bytes * 1e-9)) + " GB do not fit");
  try {
    measure_it();
  } catch (const std::exception& failure) {
    cudaGetLastError();  // or a later launch would be blamed
    report_missing(o, failed, what, failure.what());
  }
}

/// Whatever a program measures, or 77 where there is no device.
template <class F>
int run_program(int argc, char** argv, const F& run) {
  try {
    const auto o = read_options(argc, argv);
    if (!find_device()) return no_device;
    run(o);
    check(cudaDeviceSynchronize(), "waiting for the device at the end");
    return 0;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}

}  // namespace bench
