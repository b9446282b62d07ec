// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Inference with weights in a mapped file and room for three experts: a layer is routed first, then the experts that its
// tokens take are brought in, three at a time.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <moue/moue.hpp>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace {

constexpr moue::index_t tokens = 16, width = 16, depth = 3, pool = 12, room = 3;

const moue::mixture model{moue::swiglu{.width = width, .hidden = 24}, moue::shared_pool{.depth = depth, .pool = pool},
                          moue::universal_router(2), moue::no_balancing{}, moue::cpu{1}};
const auto& layout = *model.layout();

/// The numbers of all tensors, one after the other, as owned parameters lie in memory.
class mapped_file {
 public:
  explicit mapped_file(const std::filesystem::path& path) : bytes_(std::filesystem::file_size(path)) {
    const int file = open(path.c_str(), O_RDONLY);
    memory_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (memory_ == MAP_FAILED) std::abort();
  }
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file() { munmap(memory_, bytes_); }

  const float* tensor(moue::index_t i) const { return static_cast<const float*>(memory_) + layout[i].offset; }

 private:
  std::size_t bytes_;
  void* memory_;
};

/// Weights whose routers are read where the file is mapped, and of whose experts at most `room` are in memory.
class paged_weights {
 public:
  explicit paged_weights(const mapped_file& file) : file_(&file) {
    std::vector<const float*> pointers;
    for (moue::index_t i = 0; i < layout.tensors(); ++i) pointers.push_back(file.tensor(i));
    weights_ = moue::parameters<float>(model.layout(), pointers);
    for (std::int32_t e = 0; e < pool; ++e) bind(e, absent_);
  }

  const moue::parameters<float>& get() const { return weights_; }
  int brought_in() const { return brought_in_; }

  /// Has these experts in memory, `room` of them at most, in place of others.
  void bring_in(std::span<const std::int32_t> wanted) {
    const auto among = [](std::span<const std::int32_t> list, std::int32_t e) {
      return std::find(list.begin(), list.end(), e) != list.end();
    };
    for (const std::int32_t e : wanted) {
      if (among(resident_, e)) continue;
      const auto old = std::find_if(resident_.begin(), resident_.end(), [&](auto r) { return !among(wanted, r); });
      if (*old >= 0) bind(*old, absent_);
      auto& place = places_[static_cast<std::size_t>(old - resident_.begin())];
      std::copy_n(file_->tensor(layout.expert_first(e)), size, place.data());
      bind(e, place);
      *old = e;
      ++brought_in_;
    }
  }

 private:
  // The tensors of an expert follow each other, and all experts are of one size.
  static inline const moue::index_t first = layout.expert_first(0);
  static inline const moue::index_t size = (layout.elements() - layout[first].offset) / pool;

  void bind(std::int32_t e, const std::vector<float>& numbers) {
    const moue::index_t begin = layout.expert_first(e);
    for (moue::index_t i = begin; i < layout.tensors() && layout[i].expert == e; ++i)
      weights_.rebind(i, numbers.data() + (layout[i].offset - layout[begin].offset));
  }

  const mapped_file* file_;
  moue::parameters<float> weights_;
  std::vector<float> absent_ = std::vector<float>(size, std::nanf(""));  // what experts that are not there read as
  std::vector<std::vector<float>> places_ = std::vector(room, std::vector<float>(size));
  std::vector<std::int32_t> resident_ = std::vector<std::int32_t>(room, -1);  // what is in each place
  int brought_in_ = 0;
};

moue::matrix_view<float> rows(std::vector<float>& data) { return {data.data(), tokens, width}; }

std::vector<float> with_all(const moue::parameters<float>& weights, std::vector<float> x) {
  const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < depth; ++layer) pass.forward(layer, rows(x), rows(x));
  return x;
}

std::vector<float> with_three(paged_weights& weights, std::vector<float> x) {
  const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights.get(), options, scratch);
  const auto& run = model.experts_executor();
  const moue::index_t entries = 2 * tokens;
  moue::workspace block(run.workspace_bytes<float>(tokens, entries));
  auto memory = run.carve<float>(block, tokens, entries);

  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < depth; ++layer) {
    const auto all = pass.route(layer, rows(x));
    std::set<std::int32_t> taken(all.expert.begin(), all.expert.end());
    taken.erase(-1);
    const std::vector<std::int32_t> order(taken.begin(), taken.end());

    std::vector<float> y(x.size()), part(x.size());
    for (std::size_t first = 0; first < order.size(); first += room) {
      const auto group = std::span(order).subspan(first, std::min<std::size_t>(room, order.size() - first));
      weights.bring_in(group);
      // The same assignments, but for those of other groups, which run nowhere.
      std::vector<std::int32_t> ids(all.expert.begin(), all.expert.end());
      for (auto& e : ids)
        if (std::count(group.begin(), group.end(), e) == 0) e = -1;
      auto some = all;
      some.expert = {ids.data(), std::ssize(ids)};
      run.forward(some, weights.get(), moue::matrix_view<const float>(rows(x)), rows(part), memory);
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += part[i];
    }
    pass.ran(layer, all);
    x = y;
  }
  return x;
}

}  // namespace

int main() {
  const auto path = std::filesystem::temp_directory_path() / ("moue_paged_" + std::to_string(std::random_device{}()));
  const auto weights = model.initialize<float>(7);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(weights[0].data),
             static_cast<std::streamsize>(static_cast<std::size_t>(layout.elements()) * sizeof(float)));
  std::vector<float> x(tokens * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));

  const mapped_file file(path);
  paged_weights paged(file);
  const auto expected = with_all(weights, x), y = with_three(paged, x);
  std::filesystem::remove(path);

  // A token takes two experts, and a sum of two has one order; with more, partial sums of groups would round otherwise.
  std::printf("same bits as with all %td experts in memory: %s\n", pool,
              std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0 ? "yes" : "no");
  std::printf("at most %td in memory, %d brought in for %td layers\n", room, paged.brought_in(), depth);
}
