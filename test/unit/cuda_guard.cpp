// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// When a runtime may touch its device, with a machine that notes what it is asked for.

#include <doctest/doctest.h>

#include <vector>

#include "moue/backend/cuda/guard.cuh"

namespace {

struct machine {
  int device = 0;
  bool capturing = false;
  std::vector<void*> freed;
};

struct calls {
  machine* on;
  int current_device() const { return on->device; }
  bool capturing() const { return on->capturing; }
  void free(void* memory) const noexcept { on->freed.push_back(memory); }
};

}  // namespace

TEST_CASE("a runtime is used with its own device current") {
  machine two;
  two.device = 1;
  const moue::detail::gpu::device_guard guard(calls{&two});
  CHECK_NOTHROW(guard.enter("launching a kernel"));
  two.device = 0;
  CHECK_THROWS_WITH_AS(
      guard.enter("launching a kernel"),
      doctest::Contains("launching a kernel: device 0 is current, but this backend was made on device 1"), moue::error);
  CHECK_THROWS_AS(guard.wait("copying from the device"), moue::error);
}

TEST_CASE("what waits is refused inside a capture, and memory is freed after it") {
  machine one;
  int a = 0, b = 0;
  {
    const moue::detail::gpu::device_guard guard(calls{&one});
    one.capturing = true;
    CHECK_NOTHROW(guard.enter("launching a kernel"));
    CHECK_THROWS_WITH_AS(guard.wait("copying from the device"), doctest::Contains("copying from the device waits"),
                         moue::error);
    guard.free(&a);
    CHECK(one.freed.empty());
    one.capturing = false;
    guard.wait("copying from the device");
    CHECK(one.freed == std::vector<void*>{&a});
    guard.free(nullptr);
    guard.free(&b);
    CHECK(one.freed == std::vector<void*>{&a, &b});
    one.capturing = true;
    guard.free(&a);
    one.capturing = false;
  }
  CHECK(one.freed == std::vector<void*>{&a, &b, &a});  // at the latest with the runtime
}
