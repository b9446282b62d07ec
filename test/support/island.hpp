// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A backend of plain loops whose memory only its own operations may touch: anything else that reads or writes
// it ends the program. What runs here does not confuse the host's memory with a device's.

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>

#include "moue/backend/reference.hpp"

namespace test {

/// Pages that can be seen only while an `entry` lives.
class closed_memory {
 public:
  closed_memory() {
    start_ = ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start_ == MAP_FAILED) throw std::bad_alloc();
  }
  closed_memory(const closed_memory&) = delete;
  closed_memory& operator=(const closed_memory&) = delete;
  ~closed_memory() { ::munmap(start_, reserved); }

  /// Memory is used again once all of it has been released.
  void* allocate(std::size_t bytes) {
    void* const result = static_cast<std::byte*>(start_) + used_;
    used_ += (bytes + alignment - 1) / alignment * alignment;
    if (used_ > reserved) throw std::bad_alloc();
    ++blocks_;
    return result;
  }
  void release(void*) {
    if (--blocks_ == 0) used_ = 0;
  }
  void protect(int how) const {
    if (used_ > 0 && ::mprotect(start_, used_, how) != 0) throw std::runtime_error("mprotect failed");
  }

 private:
  static constexpr std::size_t reserved = std::size_t{1} << 30, alignment = 256;
  void* start_;
  std::size_t used_ = 0;
  std::size_t blocks_ = 0;
};

class entry {
 public:
  explicit entry(const closed_memory& memory) : memory_(memory) { memory_.protect(PROT_READ | PROT_WRITE); }
  ~entry() { memory_.protect(PROT_NONE); }
  entry(const entry&) = delete;
  entry& operator=(const entry&) = delete;

 private:
  const closed_memory& memory_;
};

struct island_operations {
  const closed_memory* memory;

  void linear(const auto& x, const auto& w, const auto& y, moue::store mode = moue::store::assign) const {
    const entry open(*memory);
    moue::reference_operations{}.linear(x, w, y, mode);
  }
  void input_gradient(const auto& dy, const auto& w, const auto& dx, moue::store mode = moue::store::assign) const {
    const entry open(*memory);
    moue::reference_operations{}.input_gradient(dy, w, dx, mode);
  }
  void weight_gradient(const auto& dy, const auto& x, const auto& dw, auto... mode) const {
    const entry open(*memory);
    moue::reference_operations{}.weight_gradient(dy, x, dw, mode...);
  }
  void column_sum(const auto& x, const auto& out, auto... mode) const {
    const entry open(*memory);
    moue::reference_operations{}.column_sum(x, out, mode...);
  }
  void each_row(moue::index_t rows, const auto& f) const {
    const entry open(*memory);
    moue::reference_operations{}.each_row(rows, f);
  }
  void each_element(moue::index_t rows, moue::index_t cols, const auto& f) const {
    const entry open(*memory);
    moue::reference_operations{}.each_element(rows, cols, f);
  }
};

/// The operations over the rows of one kind of experts, all of them at once, as a device has them.
struct island_group {
  const closed_memory* memory;
  moue::dispatch_plan plan;
  moue::vector_view<const std::int32_t> kinds;
  moue::index_t kind;

  void linear(const auto& x, const auto& w, const auto& y, moue::store mode = moue::store::assign) const {
    each_expert([&](moue::index_t e, auto rows_of) {
      moue::reference_operations{}.linear(rows_of(x), w.of(e), rows_of(y), mode);
    });
  }
  void input_gradient(const auto& dy, const auto& w, const auto& dx, moue::store mode = moue::store::assign) const {
    each_expert([&](moue::index_t e, auto rows_of) {
      moue::reference_operations{}.input_gradient(rows_of(dy), w.of(e), rows_of(dx), mode);
    });
  }
  void weight_gradient(const auto& dy, const auto& x, const auto& dw, moue::store mode = moue::store::add) const {
    each_expert([&](moue::index_t e, auto rows_of) {
      moue::reference_operations{}.weight_gradient(rows_of(dy), rows_of(x), dw.of(e), mode);
    });
  }
  template <class C>
  void weight_gradient(const auto& dy, const auto& x, const moue::grouped_target<C>& dw) const {
    if (dw.empty()) return;
    each_expert([&](moue::index_t e, auto rows_of) {
      moue::reference_operations{}.weight_gradient(rows_of(dy), rows_of(x), dw.of(e), dw.mode(e));
    });
    dw.set_written();
  }
  void column_sum(const auto& x, const auto& out, moue::store mode = moue::store::add) const {
    each_expert(
        [&](moue::index_t e, auto rows_of) { moue::reference_operations{}.column_sum(rows_of(x), out.of(e), mode); });
  }
  template <class C>
  void column_sum(const auto& x, const moue::grouped_target<C>& out) const {
    if (out.empty()) return;
    each_expert([&](moue::index_t e, auto rows_of) {
      if (!out.of(e).empty()) moue::reference_operations{}.column_sum(rows_of(x), out.of(e), out.mode(e));
    });
    out.set_written();
  }
  void each_row(moue::index_t, const auto& f) const {
    const entry open(*memory);
    for (moue::index_t row = 0; row < plan.rows(); ++row)
      if (kinds[plan.row_expert[row]] == kind) f(row);
  }
  void each_element(moue::index_t rows, moue::index_t cols, const auto& f) const {
    each_row(rows, [&](moue::index_t row) {
      for (moue::index_t j = 0; j < cols; ++j) f(row, j);
    });
  }

 private:
  void each_expert(const auto& f) const {
    const entry open(*memory);
    for (moue::index_t e = 0; e < plan.experts(); ++e)
      if (plan.expert_rows(e) > 0 && kinds[e] == kind)
        f(e, [&](const auto& m) { return m.row_block(plan.expert_offsets[e], plan.expert_rows(e)); });
  }
};

class island {
 public:
  static constexpr bool host_memory = false;

  void* allocate(std::size_t bytes) const { return memory_->allocate(bytes); }
  void release(void* data) const { memory_->release(data); }

  moue::index_t workers() const { return 1; }
  template <class C>
  island_operations operations(moue::matrix_view<C>) const {
    return {memory_.get()};
  }
  template <class C>
  void dispatch(const moue::routing<C>& r, moue::dispatch_plan& plan) const {
    const entry open(*memory_);
    make_plan(r, plan);
  }
  template <class S>
  moue::block_needs needs(moue::index_t entries, moue::index_t, moue::index_t) const {
    return {.rows = entries};
  }
  template <class S, class C, class Body>
  void each_block(const moue::dispatch_plan& plan, moue::index_t entries, moue::vector_view<const std::int32_t> kinds,
                  moue::index_t number, const moue::block_scratch<C>&, const Body& body) const {
    for (moue::index_t kind = 0; kind < number; ++kind)
      body(island_group{memory_.get(), plan, kinds, kind}, kind, moue::plan_block{0, entries, 0});
  }
  template <class T>
  void upload(std::span<const T> from, T* to) const {
    const entry open(*memory_);
    std::copy(from.begin(), from.end(), to);
  }
  template <class T>
  void download(const T* from, std::span<T> to) const {
    const entry open(*memory_);
    std::copy_n(from, to.size(), to.begin());
  }

 private:
  std::shared_ptr<closed_memory> memory_ = std::make_shared<closed_memory>();
};

}  // namespace test
