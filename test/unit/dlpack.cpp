// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// DLPack tensors as views and views as DLPack tensors: addresses, ownership, and what is refused.

#include "moue/adapt/dlpack.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "message_of.hpp"

namespace {

/// A tensor as another library would hand it over; counts how often it was given back.
template <class Managed>
struct foreign {
  std::vector<std::int64_t> shape, strides;
  int given_back = 0;
  Managed managed = {};

  foreign(void* data, DLDataType type, std::vector<std::int64_t> sizes, std::vector<std::int64_t> apart = {})
      : shape(std::move(sizes)), strides(std::move(apart)) {
    auto& t = managed.dl_tensor;
    t.data = data;
    t.device = {kDLCPU, 0};
    t.ndim = static_cast<std::int32_t>(shape.size());
    t.dtype = type;
    t.shape = shape.data();
    t.strides = strides.empty() ? nullptr : strides.data();
    managed.manager_ctx = this;
    managed.deleter = [](Managed* m) { ++static_cast<foreign*>(m->manager_ctx)->given_back; };
  }
  foreign(const foreign&) = delete;
};
using plain = foreign<DLManagedTensor>;

constexpr DLDataType f32{kDLFloat, 32, 1};

std::string refusal(const DLTensor& t) {
  return message_of([&] { (void)moue::rows_of<float>(t); });
}

template <class T>
void check_shape(const moue::matrix_view<T>& view, const void* data, moue::index_t rows, moue::index_t cols,
                 moue::index_t stride) {
  CHECK(view.data == data);
  CHECK(view.rows == rows);
  CHECK(view.cols == cols);
  CHECK(view.stride == stride);
}

}  // namespace

TEST_CASE("a tensor is given back once, by its last owner") {
  std::vector<float> numbers(12);
  plain theirs(numbers.data(), f32, {3, 4});
  {
    moue::dlpack_tensor ours(&theirs.managed);
    CHECK_FALSE(ours.read_only());
    check_shape(ours.rows<float>(), numbers.data(), 3, 4, 4);
    check_shape(ours.rows<const float>(), numbers.data(), 3, 4, 4);
    const auto copy = ours;
    const auto moved = std::move(ours);
    CHECK(theirs.given_back == 0);
    CHECK(moved.rows<float>().data == copy.tensor().data);
  }
  CHECK(theirs.given_back == 1);

  plain forever(numbers.data(), f32, {3, 4});
  forever.managed.deleter = nullptr;
  { const moue::dlpack_tensor ours(&forever.managed); }
  CHECK(message_of([] { moue::dlpack_tensor(static_cast<DLManagedTensor*>(nullptr)); }) ==
        "moue: dlpack: there is no tensor; a capsule can be read once; ask for another");
}

TEST_CASE("shapes, strides and offsets") {
  std::vector<float> numbers(60);
  float* const data = numbers.data();
  const auto rows = [&](std::vector<std::int64_t> shape, std::vector<std::int64_t> strides, std::uint64_t offset = 0) {
    plain theirs(data, f32, std::move(shape), std::move(strides));
    theirs.managed.dl_tensor.byte_offset = offset;
    return moue::rows_of<float>(theirs.managed.dl_tensor);
  };
  check_shape(rows({2, 3, 4}, {}), data, 6, 4, 4);
  check_shape(rows({2, 3, 4}, {12, 4, 1}), data, 6, 4, 4);
  check_shape(rows({5, 4}, {12, 1}, 8), data + 2, 5, 4, 12);  // some columns of a wider tensor
  check_shape(rows({2, 3, 4}, {18, 6, 1}), data, 6, 4, 6);    // the same in three dimensions
  check_shape(rows({3, 1, 4}, {20, 99, 1}), data, 3, 4, 20);  // the stride of one element says nothing
  check_shape(rows({1, 3, 4}, {99, 4, 1}), data, 3, 4, 4);
  check_shape(rows({1, 4}, {99, 1}), data, 1, 4, 4);
  check_shape(rows({3, 1}, {7, 99}), data, 3, 1, 7);
  check_shape(rows({2, 3, 4}, {0, 0, 1}), data, 6, 4, 0);  // broadcast
  check_shape(rows({3, 4}, {-4, 1}, 8 * sizeof(float)), data + 8, 3, 4, -4);
  check_shape(rows({4}, {1}), data, 1, 4, 4);
  check_shape(rows({0, 4}, {4, 1}), nullptr, 0, 4, 4);
  check_shape(rows({3, 0}, {5, 5}), nullptr, 3, 0, 0);

  plain list(data, f32, {5}, {1});
  CHECK(moue::list_of<const float>(list.managed.dl_tensor).data == data);
  CHECK(moue::list_of<const float>(list.managed.dl_tensor).size == 5);
}

TEST_CASE("what cannot be viewed is refused with a sentence") {
  std::vector<float> numbers(60);
  float* const data = numbers.data();
  const auto of = [&](std::vector<std::int64_t> shape, std::vector<std::int64_t> strides, auto change) {
    plain theirs(data, f32, std::move(shape), std::move(strides));
    change(theirs.managed.dl_tensor);
    return refusal(theirs.managed.dl_tensor);
  };
  const auto as_it_is = [](DLTensor&) {};
  CHECK(of({3, 4}, {1, 3}, as_it_is) ==
        "moue: dlpack: the elements of a row lie 3 apart; make the tensor contiguous (a transposed one is not)");
  CHECK(of({2, 3, 4}, {24, 4, 1}, as_it_is) ==
        "moue: dlpack: the rows are not evenly apart: dimension 0 has a stride of 24, not 12; make the tensor "
        "contiguous");
  CHECK(of({}, {}, as_it_is) == "moue: dlpack: a single number has no rows; give [.., width]");
  CHECK(contains(of({3, -4}, {}, as_it_is), "dimension 1 has the size -4"));
  CHECK(contains(of({std::int64_t{1} << 62, 4}, {}, as_it_is), "dimension 1 has the size 4"));
  CHECK(of({3, 4}, {},
           [](DLTensor& t) {
             t.device = {kDLCUDA, 1};
           }) ==
        "moue: dlpack: the tensor lies on a device of type 2, not 1; move it to where the backend's memory is; the "
        "host is 1");
  CHECK(
      of({3, 4}, {}, [](DLTensor& t) {
        t.dtype = {kDLFloat, 64, 1};
      }) == "moue: dlpack: the elements are float64, not float32; convert the tensor; nothing is converted on the way");
  CHECK(contains(of({3, 4}, {},
                    [](DLTensor& t) {
                      t.dtype = {kDLFloat, 32, 4};
                    }),
                 "float32 in lanes of 4, not float32"));
  CHECK(contains(of({3, 4}, {}, [](DLTensor& t) { t.dtype = {kDLInt, 32, 1}; }), "int32, not float32"));
  CHECK(contains(of({3, 4}, {}, [](DLTensor& t) { t.dtype = {17, 8, 1}; }), "code 17 of 8, not float32"));
  CHECK(contains(of({3, 4}, {}, [](DLTensor& t) { t.byte_offset = 2; }), "does not begin at a multiple of 4 bytes"));
  CHECK(contains(of({3, 4}, {}, [](DLTensor& t) { t.data = nullptr; }), "has elements but no memory"));
  CHECK(contains(of({3, 4}, {}, [](DLTensor& t) { t.shape = nullptr; }), "the tensor has no shape"));
  plain square(data, f32, {2, 2});
  CHECK(message_of([&] { (void)moue::list_of<float>(square.managed.dl_tensor); }) ==
        "moue: dlpack: 2 dimensions are no list; give one");
}

TEST_CASE("element types and devices") {
  std::vector<std::byte> memory(64);
  const auto accepts = [&]<class T>(T, DLDataType type) {
    plain theirs(memory.data(), type, {2, 2});
    return message_of([&] { (void)moue::rows_of<T>(theirs.managed.dl_tensor); }).empty();
  };
  CHECK(accepts(double{}, {kDLFloat, 64, 1}));
  CHECK(accepts(moue::bf16{}, {kDLBfloat, 16, 1}));
  CHECK(accepts(moue::half{}, {kDLFloat, 16, 1}));
  CHECK_FALSE(accepts(moue::half{}, {kDLBfloat, 16, 1}));
  CHECK_FALSE(accepts(moue::bf16{}, {kDLFloat, 16, 1}));
  CHECK(accepts(std::int32_t{}, {kDLInt, 32, 1}));
  CHECK(accepts(std::int64_t{}, {kDLInt, 64, 1}));
  CHECK_FALSE(accepts(std::int32_t{}, {kDLUInt, 32, 1}));
  CHECK(accepts(std::uint8_t{}, {moue::detail::dlpack_bool, 8, 1}));
  CHECK_FALSE(accepts(std::int8_t{}, {moue::detail::dlpack_bool, 8, 1}));

  plain pinned(memory.data(), f32, {2, 2}), device(memory.data(), f32, {2, 2});
  pinned.managed.dl_tensor.device = {kDLCUDAHost, 0};
  CHECK(moue::rows_of<float>(pinned.managed.dl_tensor).rows == 2);
  device.managed.dl_tensor.device = {kDLCUDA, 0};
  CHECK(moue::rows_of<float>(device.managed.dl_tensor, kDLCUDA).rows == 2);
  CHECK(contains(message_of([&] { (void)moue::rows_of<float>(pinned.managed.dl_tensor, kDLCUDA); }), "type 3, not 2"));
}

TEST_CASE("weights as tensors of another library keep their owner alive") {
  auto owner = std::make_shared<std::vector<float>>(12);
  const std::weak_ptr<std::vector<float>> alive = owner;
  const moue::matrix_view<float> columns{owner->data() + 1, 3, 2, 4};
  DLManagedTensor* const lent = moue::to_dlpack(columns, owner);
  DLManagedTensor* const list = moue::to_dlpack(moue::vector_view<float>{owner->data(), 12}, owner, {kDLCUDAHost, 3});
  owner.reset();
  CHECK(lent->dl_tensor.data == columns.data);
  CHECK(lent->dl_tensor.ndim == 2);
  CHECK(lent->dl_tensor.shape[0] == 3);
  CHECK(lent->dl_tensor.strides[0] == 4);
  CHECK(lent->dl_tensor.byte_offset == 0);
  CHECK(list->dl_tensor.device.device_type == kDLCUDAHost);
  CHECK(list->dl_tensor.shape[0] == 12);
  check_shape(moue::rows_of<float>(lent->dl_tensor), columns.data, 3, 2, 4);
  list->deleter(list);
  CHECK_FALSE(alive.expired());
  { const moue::dlpack_tensor back(lent); }
  CHECK(alive.expired());
}

#if defined(DLPACK_MAJOR_VERSION)
using versioned = foreign<DLManagedTensorVersioned>;

TEST_CASE("versioned tensors say whether they may be written") {
  std::vector<float> numbers(12);
  versioned theirs(numbers.data(), f32, {3, 4});
  theirs.managed.version = {DLPACK_MAJOR_VERSION, 9};
  theirs.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  {
    const moue::dlpack_tensor ours(&theirs.managed);
    CHECK(ours.read_only());
    CHECK(ours.rows<const float>().data == numbers.data());
    CHECK(message_of([&] { (void)ours.rows<float>(); }) ==
          "moue: dlpack: the tensor is read-only; view it as const, or copy it");
    CHECK(contains(message_of([&] { (void)ours.list<float>(); }), "read-only"));
  }
  CHECK(theirs.given_back == 1);

  versioned later(numbers.data(), f32, {3, 4});
  later.managed.version = {DLPACK_MAJOR_VERSION + 1, 0};
  CHECK(contains(message_of([&] { moue::dlpack_tensor(&later.managed); }), "the tensor is of DLPack 2"));
  CHECK(later.given_back == 1);

  const auto owner = std::make_shared<std::vector<float>>(4);
  auto* const lent = moue::to_dlpack_versioned(moue::matrix_view<const float>{owner->data(), 2, 2}, owner);
  CHECK(lent->version.major == DLPACK_MAJOR_VERSION);
  CHECK(owner.use_count() == 2);
  CHECK(moue::dlpack_tensor(lent).read_only());
  CHECK(owner.use_count() == 1);
  CHECK_FALSE(
      moue::dlpack_tensor(moue::to_dlpack_versioned(moue::matrix_view<float>{owner->data(), 2, 2}, owner)).read_only());
}
#endif
