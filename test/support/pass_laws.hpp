// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What holds for a pass on any backend.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "whole.hpp"

namespace test {

/// Calls f(word) for every word of a pass's memory that is an address of weights, gradients, marks or `more`.
template <class F>
void each_address(std::span<std::byte> image, const auto& weights, const auto& gradients, std::span<std::byte> more,
                  const F& f) {
  std::vector<std::pair<std::uintptr_t, std::uintptr_t>> ranges;
  const auto add = [&](const auto* data, std::size_t count) {
    const auto first = reinterpret_cast<std::uintptr_t>(data);
    if (count > 0) ranges.emplace_back(first, first + count * sizeof(*data));
  };
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto size = static_cast<std::size_t>(weights.layout()[i].size());
    add(weights[i].data, size);
    if (gradients.wanted(i)) add(gradients[i].data, size);
  }
  add(gradients.marks().data, static_cast<std::size_t>(gradients.marks().size));
  add(more.data(), more.size());
  const std::size_t behind = reinterpret_cast<std::uintptr_t>(image.data()) % sizeof(void*);
  for (std::size_t at = behind == 0 ? 0 : sizeof(void*) - behind; at + sizeof(void*) <= image.size();
       at += sizeof(void*)) {
    std::uintptr_t word = 0;
    std::memcpy(&word, image.data() + at, sizeof(word));
    if (std::none_of(ranges.begin(), ranges.end(), [&](auto r) { return word >= r.first && word < r.second; }))
      continue;
    f(word);
    std::memcpy(image.data() + at, &word, sizeof(word));
  }
}

/// What is handed from a range to the next, or back.
inline void hand_on(const moue::matrix_view<const double>& from, const moue::matrix_view<double>& to) {
  REQUIRE(to.cols == from.cols);
  for (moue::index_t t = 0; t < to.rows; ++t) std::copy(from.row(t).begin(), from.row(t).end(), to.row(t).begin());
}

/// Any cut of the depth has the bits of the whole.
inline void check_cuts(const any_model<double>& model) {
  whole_host whole(model);
  const double balance = run_whole(whole);
  CHECK(balance > 0);
  const moue::index_t layers = model.layers();
  REQUIRE(layers == 4);
  const std::vector<std::vector<moue::index_t>> all_cuts{{0, 1, 4},    {0, 2, 4},    {0, 3, 4},      {0, 1, 2, 4},
                                                         {0, 1, 3, 4}, {0, 2, 3, 4}, {0, 1, 2, 3, 4}};
  for (const auto& cuts : all_cuts) {
    CAPTURE(cuts.size());
    whole_host host(model);
    std::vector<placed_pass> ranges;
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
      ranges.emplace_back(host, moue::pass_options{.first = cuts[i], .count = cuts[i + 1] - cuts[i]});
    moue::routing_counts<double> counts;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      ranges[i]->begin(host.tokens, host.inputs(), host.how);
      if (i > 0) hand_on(ranges[i - 1]->state_out(), ranges[i]->state_in());
      for (moue::index_t l = cuts[i]; l < cuts[i + 1]; ++l) host.forward(*ranges[i], l);
      counts += ranges[i]->counts();
    }
    CHECK(double(ranges[0]->balance(counts)) == balance);
    const std::vector<double> scales{1, 1, 1, 1};
    for (std::size_t i = ranges.size(); i-- > 0;) {
      if (i + 1 < ranges.size()) hand_on(ranges[i + 1]->dstate_in(), ranges[i]->dstate_out());
      ranges[i]->arm(scales, counts);
      for (moue::index_t l = cuts[i + 1]; l-- > cuts[i];) host.backward(*ranges[i], l);
    }
    CHECK(host.same_bits_as(whole));
  }
}

/// A block that is run again has the bits of the whole and is counted once.
inline void check_block_again(const any_model<double>& model) {
  whole_host whole(model);
  run_whole(whole);
  whole_host host(model);
  const moue::pass_options inside{.first = 1, .count = 2};
  placed_pass first(host, {.count = 1}), last(host, {.first = 3});
  std::vector<double> state;
  moue::routing_counts<double> counts;
  {
    placed_pass block(host, {.how = moue::mode::inference, .first = 1, .count = 2});
    first->begin(host.tokens, host.inputs(), host.how);
    host.forward(*first, 0);
    block->begin(host.tokens, host.inputs(), host.how);
    hand_on(first->state_out(), block->state_in());
    for (moue::index_t l = 1; l < 3; ++l) host.forward(*block, l);
    last->begin(host.tokens, host.inputs(), host.how);
    hand_on(block->state_out(), last->state_in());
    host.forward(*last, 3);
    counts = first->counts() + block->counts() + last->counts();
  }
  const std::vector<double> scales{1, 1, 1, 1};
  last->arm(scales, counts);
  host.backward(*last, 3);
  placed_pass block(host, inside);
  auto again = host.how;
  again.counts = false;
  block->begin(host.tokens, host.inputs(), again);
  hand_on(first->state_out(), block->state_in());
  for (moue::index_t l = 1; l < 3; ++l) host.forward(*block, l);
  const auto nothing = block->counts();
  moue::detail::each_count(
      [](moue::reduction how, const auto& counted) {
        if (how == moue::reduction::sum)  // the other holds no counts
          CHECK(std::all_of(counted.begin(), counted.end(), [](auto n) { return n == 0; }));
      },
      nothing);
  hand_on(last->dstate_in(), block->dstate_out());
  block->arm(scales, counts);
  for (moue::index_t l = 3; l-- > 1;) host.backward(*block, l);
  hand_on(block->dstate_in(), first->dstate_out());
  first->arm(scales, counts);
  host.backward(*first, 0);
  CHECK(host.same_bits_as(whole));
}

/// A pass taken apart, its assignments copied or its selections those of another pass, has the bits of the whole.
inline void check_taken_apart(const any_model<double>& model) {
  whole_host whole(model);
  run_whole(whole);
  for (const bool copied : {false, true})
    for (const bool replayed : {false, true}) {
      CAPTURE(copied);
      CAPTURE(replayed);
      whole_host host(model);
      const placed_pass pass(host, {});
      pass->begin(host.tokens, host.inputs(), host.how);
      for (moue::index_t l = 0; l < model.layers(); ++l) {
        const auto x = host.view(host.at(l));
        moue::routing<double> r;
        if (replayed) {
          const placed_pass recorded(host, {.first = l, .count = 1});
          recorded->begin(host.tokens, host.inputs(), host.how);
          hand_on(pass->state(l), recorded->state_in());
          const auto selected = recorded->route(l, x);
          r = pass->replay(l, x, {selected.expert.data, host.tokens, 2, selected.offsets[1]});
          CHECK(std::equal(selected.expert.begin(), selected.expert.end(), r.expert.begin()));
          CHECK(std::equal(selected.gate.begin(), selected.gate.end(), r.gate.begin()));
        } else {
          r = pass->route(l, x);
        }
        std::vector<std::int32_t> experts(r.expert.begin(), r.expert.end());
        if (copied) r.expert.data = experts.data();
        whole_host::numbers y(host.input.size());
        pass->run(l, x, r, host.view(y));
        host.leave(l, y);
      }
      pass->arm();
      for (moue::index_t l = model.layers(); l-- > 0;) {
        auto dy = host.enter_backward(l);
        std::vector<double> dgates(static_cast<std::size_t>(pass->assignments(l).entries())), router(dy.size());
        pass->run_backward(l, host.view(dy), host.view(dy), {dgates.data(), std::ssize(dgates)}, host.gradients);
        pass->route_backward(l, {dgates.data(), std::ssize(dgates)}, host.view(router), host.gradients);
        for (std::size_t i = 0; i < dy.size(); ++i) dy[i] += router[i];
        host.leave_backward(dy);
      }
      CHECK(host.same_bits_as(whole));
    }
}

/// The sum as a library for collective operations forms it, array by array.
inline moue::routing_counts<double> sum_by_arrays(moue::routing_counts<double> to, moue::routing_counts<double> from) {
  std::vector<std::vector<double>> arrays;
  from.each_array([&](const auto& array, moue::reduction) { arrays.emplace_back(array.begin(), array.end()); });
  std::size_t next = 0;
  to.each_array([&]<class T>(std::vector<T>& array, moue::reduction how) {
    const auto& other = arrays[next++];
    for (std::size_t i = 0; i < array.size(); ++i) {
      const auto value = static_cast<T>(other[i]);
      array[i] = how == moue::reduction::sum ? static_cast<T>(array[i] + value) : std::max(array[i], value);
    }
  });
  return to;
}

/// Two halves of a batch that add up their counts: the loss, and gradients that add up to those of the whole batch. Armed
/// with a scale per part and, if `every_way`, with one for all and with one per part and layer, too.
inline void check_halves(const any_model<double>& model, bool every_way = true) {
  constexpr double rounding = 1e-13;  // of sums over nine tokens, in another order
  const std::vector<double> one_per_part{2, 3, -1, 0.5};
  std::vector<double> one_per_layer;
  for (int i = 0; i < 16; ++i) one_per_layer.push_back(0.5 * i - 2);
  for (const int how : {0, 1, 2}) {
    if (how != 1 && !every_way) continue;
    CAPTURE(how);
    const auto arm = [&](any_pass<double>& pass, const auto&... counts) {
      if (how == 0)
        pass.arm(0.7, counts...);
      else
        pass.arm(how == 1 ? one_per_part : one_per_layer, counts...);
    };
    whole_host whole(model), halves[]{{model, 0, 4}, {model, 4, 5}};
    const placed_pass all(whole, {}), first(halves[0], {}), second(halves[1], {});
    whole.forward(*all);
    halves[0].forward(*first);
    halves[1].forward(*second);
    const auto expected = all->counts(), counts = first->counts() + second->counts();
    CHECK(sum_by_arrays(first->counts(), second->counts()) == counts);
    CHECK(counts.tokens == expected.tokens);
    CHECK(counts.demand == expected.demand);
    CHECK(counts.load == expected.load);
    CHECK(counts.rows == expected.rows);
    CHECK(counts.open == expected.open);
    CHECK(distance(counts.probability, expected.probability) < rounding);
    CHECK(distance(counts.token_loss, expected.token_loss) < rounding);
    CHECK(std::abs(double(first->balance(counts)) - all->balance()) < rounding);
    const auto share = first->statistics(counts).share, share_of_all = all->statistics().share;
    CHECK(std::equal(share.begin(), share.end(), share_of_all.begin(), share_of_all.end()));
    CHECK(first->statistics(counts).tokens == 7);

    arm(*all);
    arm(*first, counts);
    arm(*second, counts);
    whole.backward(*all);
    halves[0].backward(*first);
    halves[1].backward(*second);
    auto dx = halves[0].dx;
    dx.insert(dx.end(), halves[1].dx.begin(), halves[1].dx.end());
    CHECK(distance(dx, whole.dx) < rounding);
    for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) {
      const auto& info = (*model.layout())[i];
      CAPTURE(info.name);
      std::vector<double> sum(static_cast<std::size_t>(info.size()));
      for (const auto& half : halves)
        for (std::size_t j = 0; half.gradients.live(i) && j < sum.size(); ++j) sum[j] += half.gradients[i].data[j];
      if (info.trained) CHECK(distance(sum, to_vector(std::as_const(whole.gradients)[i])) < rounding);
    }
  }
}

/// Backward again over what was saved has the same bits.
inline void check_backward_again(const any_model<double>& model) {
  whole_host whole(model);
  run_whole(whole);
  whole_host host(model);
  const placed_pass pass(host, {});
  pass->begin(host.tokens, host.inputs(), host.how);
  for (moue::index_t l = 0; l < model.layers(); ++l) host.forward(*pass, l);
  for (int time = 0; time < 3; ++time) {
    host.gradients.zero();
    if (time != 1) pass->arm();
    for (moue::index_t l = model.layers(); l-- > (time == 1 ? 2 : 0);) host.backward(*pass, l);  // left half way, too
    if (time != 1) CHECK(host.same_bits_as(whole));
    pass->rewind();
  }
  // The rewind has disarmed the balancing loss.
  whole_host unarmed(model);
  run_whole(unarmed, {}, false);
  host.gradients.zero();
  host.backward(*pass);
  CHECK(host.same_bits_as(unarmed));
  CHECK_FALSE(host.same_bits_as(whole));
}

/// Rows `stride` elements apart, in memory that shows what was written between them.
struct spaced_rows {
  static constexpr double between = 777;
  moue::index_t tokens, width, stride;
  std::vector<double> memory;

  spaced_rows(moue::index_t rows, moue::index_t cols, moue::index_t apart)
      : tokens(rows),
        width(cols),
        stride(apart),
        memory(static_cast<std::size_t>((rows - 1) * std::abs(apart) + cols), between) {}
  moue::matrix_view<double> view() {
    return {memory.data() + (stride < 0 ? (1 - tokens) * stride : 0), tokens, width, stride};
  }
  std::vector<double> packed() { return to_vector(moue::matrix_view<const double>(view())); }
  bool gaps_are_untouched() const {
    for (std::size_t i = 0; i < memory.size(); ++i)
      if (static_cast<moue::index_t>(i) % stride >= width && memory[i] != between) return false;
    return true;
  }
};

/// A pass that reads x and dy from rows some elements apart and writes y and dx to rows with gaps, or all packed. Without
/// `every_stride` only the ones that BLAS cannot be told of. `rounding`: by how much sums may differ, 0 for the same bits.
inline void check_strides(const any_model<double>& model, const moue::pass_options& options, moue::index_t tokens = 9,
                          bool every_stride = true, double rounding = 0) {
  const moue::index_t w = model.width();
  const bool training = options.how == moue::mode::training;
  const auto same = [&](const whole_host::numbers& a, const whole_host::numbers& b) {
    return rounding > 0 ? distance(a, b) < rounding : a == b;
  };
  CAPTURE(tokens);
  for (const moue::index_t apart : {moue::index_t{0}, moue::index_t{1}, -w, w, w + 3}) {
    if (apart >= w && !every_stride) continue;
    CAPTURE(apart);
    whole_host host(model, 0, tokens), dense(model, 0, tokens);
    const placed_pass pass(host, options), expected(dense, options);
    pass->begin(tokens, host.inputs(), host.how);
    expected->begin(tokens, host.inputs(), host.how);
    std::vector<spaced_rows> inputs(static_cast<std::size_t>(model.layers()), spaced_rows(tokens, w, apart));
    std::vector<whole_host::numbers> copies;
    for (moue::index_t l = 0; l < model.layers(); ++l) {
      auto& in = inputs[static_cast<std::size_t>(l)];
      in.memory = noise_vector(20 + static_cast<std::uint64_t>(l), std::ssize(in.memory));
      spaced_rows y(tokens, w, w + 3);
      whole_host::numbers dense_y(host.input.size());
      pass->forward(l, in.view(), y.view());
      copies.push_back(in.packed());
      expected->forward(l, dense.view(copies.back()), dense.view(dense_y));
      CHECK(same(y.packed(), dense_y));
      CHECK(y.gaps_are_untouched());
    }
    if (!training) continue;
    pass->arm();
    expected->arm();
    for (moue::index_t l = model.layers(); l-- > 0;) {
      spaced_rows dy(tokens, w, apart), dx(tokens, w, w + 3);
      dy.memory = noise_vector(30 + static_cast<std::uint64_t>(l), std::ssize(dy.memory));
      auto dense_dy = dy.packed();
      pass->backward(l, dy.view(), dx.view(), host.gradients);
      expected->backward(l, dense.view(dense_dy), dense.view(dense_dy), dense.gradients);
      CHECK(same(dx.packed(), dense_dy));
      CHECK(dx.gaps_are_untouched());
    }
    if (rounding > 0)
      CHECK(distance(host.gradients, dense.gradients) < rounding);
    else
      CHECK(same_bits(host.gradients, dense.gradients));
  }
}

}  // namespace test
