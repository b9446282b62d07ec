// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What holds for a pass on any backend.

#include <doctest/doctest.h>

#include <algorithm>
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
  const std::vector<std::vector<moue::index_t>> all_cuts{{0, 1, 4}, {0, 2, 4}, {0, 3, 4}, {0, 1, 2, 3, 4}};
  for (const auto& cuts : all_cuts) {
    CAPTURE(cuts.size());
    whole_host host(model);
    std::vector<placed_pass> ranges;
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
      ranges.emplace_back(host, moue::pass_options{.first = cuts[i], .count = cuts[i + 1] - cuts[i]});
    moue::routing_counts<double> counts;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      ranges[i]->begin(host.tokens, host.inputs());
      if (i > 0) hand_on(ranges[i - 1]->state_out(), ranges[i]->state_in());
      for (moue::index_t l = cuts[i]; l < cuts[i + 1]; ++l) host.forward(*ranges[i], l);
      counts += ranges[i]->counts();
    }
    CHECK(double(ranges[0]->balance(counts)) == balance);
    const std::vector<double> scales{1, 1, 1};
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
    first->begin(host.tokens, host.inputs());
    host.forward(*first, 0);
    block->begin(host.tokens, host.inputs());
    hand_on(first->state_out(), block->state_in());
    for (moue::index_t l = 1; l < 3; ++l) host.forward(*block, l);
    last->begin(host.tokens, host.inputs());
    hand_on(block->state_out(), last->state_in());
    host.forward(*last, 3);
    counts = first->counts() + block->counts() + last->counts();
  }
  const std::vector<double> scales{1, 1, 1};
  last->arm(scales, counts);
  host.backward(*last, 3);
  placed_pass block(host, inside);
  block->begin(host.tokens, host.inputs(), {.counts = false});
  hand_on(first->state_out(), block->state_in());
  for (moue::index_t l = 1; l < 3; ++l) host.forward(*block, l);
  CHECK(block->counts().tokens == std::vector<std::int64_t>(4, 0));
  hand_on(last->dstate_in(), block->dstate_out());
  block->arm(scales, counts);
  for (moue::index_t l = 3; l-- > 1;) host.backward(*block, l);
  hand_on(block->dstate_in(), first->dstate_out());
  first->arm(scales, counts);
  host.backward(*first, 0);
  CHECK(host.same_bits_as(whole));
}

/// A pass taken apart, its assignments copied or replayed, has the bits of the whole.
inline void check_taken_apart(const any_model<double>& model) {
  whole_host whole(model);
  run_whole(whole);
  for (const bool copied : {false, true})
    for (const bool replayed : {false, true}) {
      CAPTURE(copied);
      CAPTURE(replayed);
      whole_host host(model);
      const placed_pass pass(host, {});
      pass->begin(host.tokens, host.inputs());
      for (moue::index_t l = 0; l < model.layers(); ++l) {
        const auto x = host.view(host.at(l));
        auto r = pass->route(l, x);
        if (replayed) {
          const std::vector<std::int32_t> ids(r.expert.begin(), r.expert.end());
          const moue::matrix_view<const std::int32_t> chosen{ids.data(), host.tokens, 2, r.offsets[1]};
          placed_pass again(host, {.first = l, .count = 1});
          again->begin(host.tokens, host.inputs());
          hand_on(pass->state(l), again->state_in());
          const auto given = again->replay(l, x, chosen);
          CHECK(std::equal(given.expert.begin(), given.expert.end(), r.expert.begin()));
          CHECK(std::equal(given.gate.begin(), given.gate.end(), r.gate.begin()));
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

/// Backward again over what was saved has the same bits.
inline void check_backward_again(const any_model<double>& model) {
  whole_host whole(model);
  run_whole(whole);
  whole_host host(model);
  const placed_pass pass(host, {});
  pass->begin(host.tokens, host.inputs());
  for (moue::index_t l = 0; l < model.layers(); ++l) host.forward(*pass, l);
  for (int time = 0; time < 3; ++time) {
    host.gradients.zero();
    if (time != 1) pass->arm();
    for (moue::index_t l = model.layers(); l-- > (time == 1 ? 2 : 0);) host.backward(*pass, l);  // left half way, too
    if (time != 1) CHECK(host.same_bits_as(whole));
    pass->rewind();
  }
}

}  // namespace test
