// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a pass refuses, and in which words.

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>

#include "moue/backend.hpp"
#include "moue/dispatch/offsets.hpp"
#include "moue/error.hpp"
#include "moue/gradients.hpp"
#include "moue/layer_loss.hpp"
#include "moue/mixture.hpp"
#include "moue/router.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// Checks for a pass at `at` that runs layers [first, end).
struct pass_checks {
  static constexpr std::string_view where = "pass";

  const pass_options& options;
  const pass_position& at;
  index_t first;
  index_t end;
  index_t width;

  static std::string text(index_t n) { return std::to_string(n); }

  /// `readable` says whether the host can read what the batch brings.
  void batch(index_t tokens, const side_inputs& inputs, bool readable) const {
    require(
        tokens >= 0 && tokens <= options.tokens, where,
        [&] { return text(tokens) + " tokens were given, but it holds " + text(options.tokens); },
        "start the pass for the largest batch");
    list("mask", inputs.valid.data, inputs.valid.size, tokens);
    list("list of token ids", inputs.token_ids.data, inputs.token_ids.size, tokens);
    list("list of labels", inputs.labels.data, inputs.labels.size, tokens);
    list("side matrix", inputs.side.data, inputs.side.rows, tokens);
    const auto& begins = inputs.sequences;
    if (begins.size == 0) return;
    if (begins.data == nullptr)
      throw error(where, "the list of sequences is null", "point it at your data, or give none at all");
    if (!readable) return;
    const bool ascends = std::is_sorted(begins.begin(), begins.end());
    if (begins[0] != 0 || begins[begins.size - 1] != tokens || !ascends)
      throw error(where,
                  "the sequences run from " + text(begins[0]) + " to " + text(begins[begins.size - 1]) + " of " +
                      text(tokens) + " tokens" + (ascends ? "" : ", and back on the way"),
                  "list where each begins, from 0 on, and at the end the number of tokens");
  }
  static void list(std::string_view name, const void* data, index_t size, index_t tokens) {
    if (size == 0) return;
    if (size != tokens)
      throw error(where, "the " + std::string(name) + " has " + text(size) + " entries for " + text(tokens) + " tokens",
                  "give one entry per token, or none at all");
    if (data == nullptr)
      throw error(where, "the " + std::string(name) + " is null", "point it at your data, or give none at all");
  }

  /// Rows that are read may be any number of elements apart, also 0; rows that are written must not overlap.
  template <class T>
  void matrix(std::string_view name, const matrix_view<T>& m) const {
    matrix(name, m.data, m.rows, m.cols, m.stride, std::is_const_v<T>);
  }
  void matrix(std::string_view name, const void* data, index_t rows, index_t cols, index_t stride,
              bool read_only) const {
    if (rows != at.tokens || cols != width) {
      if (!at.begun)
        throw error(where, std::string(name) + " was given before a batch was begun",
                    "call begin with the number of tokens first");
      throw error(where,
                  std::string(name) + " has shape " + shape_text(rows, cols) + ", not " + shape_text(at.tokens, width),
                  "give [tokens, width], with the tokens of begin");
    }
    if (data == nullptr && rows > 0) throw error(where, std::string(name) + " is null", "point it at your data");
    if (!read_only && rows > 1 && stride < cols)
      throw error(where, std::string(name) + " has rows " + text(stride) + " elements apart",
                  "set its stride to at least its columns");
  }

  template <class S>
  void input(const layer_input<S>& x) const {
    matrix("x", x.experts);
    apart("the router's x", "an input", x.router);
  }
  template <class S>
  void gradient(const layer_gradient<S>& dx) const {
    matrix("dx", dx.experts);
    apart("the router's dx", "a gradient", dx.router);
  }

  void forward(std::string_view what, index_t layer, bool halfway) const {
    require(
        layer == at.next && layer < end && !at.backward && !at.armed && at.halfway == halfway, where,
        [&] {
          const std::string due = at.armed && !at.backward        ? std::string("backward of an armed balancing loss")
                                  : at.backward || at.next == end ? std::string("none")
                                  : at.halfway                    ? "run of layer " + text(at.next)
                                                                  : "layer " + text(at.next);
          return std::string(what) + " of layer " + text(layer) + " came when " + due + " was due";
        },
        halfway ? "route a layer, then run it" : "visit layers in order, and call begin before the next batch");
  }

  /// A layer that somebody else ran has no activations to go back over.
  void backward(std::string_view what, index_t layer, bool halfway) const {
    require(
        options.how == mode::training, where, [] { return std::string("backward was called in inference"); },
        "start the pass with mode::training");
    const auto here = [&](index_t l) { return at.elsewhere[static_cast<std::size_t>(l - first)] == 0; };
    const bool ran = layer >= first && layer < end && here(layer);
    require(
        at.next == layer + 1 && at.next > first && at.halfway == (halfway && ran) && (at.backward || !at.halfway),
        where,
        [&] {
          const bool second = at.next > first && (at.halfway || !here(at.next - 1));
          return std::string(what) + " of layer " + text(layer) + " came when " +
                 (at.next == first ? std::string("none was due")
                                   : std::string(second ? "route_backward" : "backward") + " of layer " +
                                         text(at.next - 1) + " was due");
        },
        "visit the layers that ran in reverse order; after run_backward comes route_backward");
    require(
        halfway || ran, where, [&] { return "the experts of layer " + text(layer) + " were run by somebody else"; },
        "give the gradients of their gates to route_backward");
  }

  void dgates(const void* data, index_t given, index_t entries) const {
    require(
        given == entries && (data != nullptr || entries == 0), where,
        [&] {
          return text(given) + " gradients of gates were given for " + text(entries) + " entries" +
                 (data == nullptr ? ", and they are null" : "");
        },
        "give one per entry of what ran");
  }
  /// What experts said is there once they ran here.
  void ran(std::string_view what, index_t layer) const {
    shown(what, layer);
    require(
        layer < at.reached && at.elsewhere[static_cast<std::size_t>(layer - first)] == 0, where,
        [&] {
          return std::string(what) + " of layer " + text(layer) + ", whose experts did not run here, were asked for";
        },
        "ask after forward or run");
  }
  /// Gradients that reach a layer beside that of its output.
  template <class C>
  void also(const routing_gradient<const C>& given, index_t candidates, index_t extra, index_t entries, index_t rows,
            bool balances, bool shows) const {
    const auto matrix = [&](std::string_view name, const matrix_view<const C>& m, index_t as_many, index_t cols) {
      if (m.data == nullptr && m.rows == 0) return;
      if (m.rows != as_many || m.cols != cols || (m.data == nullptr && !m.empty()))
        throw error(where,
                    "gradients of " + std::string(name) + " have shape " + shape_text(m.rows, m.cols) +
                        (m.data == nullptr ? ", and are null" : ""),
                    "give " + shape_text(as_many, cols) + ", or none");
    };
    matrix("logits", given.logits, at.tokens, candidates);
    matrix("probabilities", given.probabilities, at.tokens, candidates);
    matrix("extra columns", given.extra, at.tokens, extra);
    matrix("outputs", given.outputs, rows, width);
    if (given.gates.size > 0) matrix("gates", {given.gates.data, 1, given.gates.size}, 1, entries);
    require(
        balances || given.probabilities.empty(), where,
        [] { return std::string("gradients of probabilities were given to a mixture that computes none"); },
        "give the mixture a balancing loss, if need be of weight 0");
    require(
        shows || given.outputs.empty(), where,
        [] { return std::string("gradients of outputs were given to a mixture that does not show them"); },
        "add moue::show_outputs to its losses");
  }
  /// What is external is not there once a pass was picked up.
  template <class S>
  void there(index_t layer, const matrix_view<const S>& input) const {
    require(
        input.data != nullptr || at.tokens == 0, where,
        [&] { return "the external input of layer " + text(layer) + " is not there"; },
        "give it to rebind_input after resume");
  }

  void counted() const {
    require(
        at.batch.counts, where,
        [] { return std::string("the balancing loss was armed over layers that were not counted"); },
        "give the counts of all layers: arm(scale, counts)");
  }
  void arm() const {
    require(
        options.how == mode::training && !at.backward && !at.halfway, where,
        [] { return std::string("the balancing loss was armed where no backward can begin"); },
        "arm it in training, between the last forward and the first backward");
  }
  void rewind() const {
    require(
        options.how == mode::training && !(at.halfway && !at.backward), where,
        [] { return std::string("rewind was called where no backward can begin"); },
        "start the pass with mode::training, and run every layer that was routed");
  }
  /// Whether the pass can stand there; `visits` are its memory's.
  void position(const pass_position& given, const auto& visits) const {
    require(
        given.layout == at.layout && given.next >= first && given.next <= given.reached && given.reached <= end &&
            (given.backward ? options.how == mode::training : given.next == given.reached) &&
            (!given.halfway || (given.backward ? given.next > first : given.next < end)) &&
            (given.begun || (given.tokens == 0 && given.reached == first && !given.halfway)) &&
            given.elsewhere.size() == at.elsewhere.size() &&
            std::equal(given.entries.begin(), given.entries.end(), visits.begin(), visits.end(),
                       [](index_t n, const auto& visit) { return n >= 0 && n <= visit.experts.size; }),
        where, [] { return std::string("the position is one of another pass"); },
        "resume with the mixture, the options and the kind of backend that the pass was started with");
  }

  /// What was routed at a layer is there from its route on; in inference, until the next.
  void shown(std::string_view what, index_t layer) const {
    const index_t last = at.backward ? at.reached : at.next + (at.halfway ? 1 : 0);
    require(
        layer >= first && layer < last, where,
        [&] {
          return std::string(what) + " of layer " + text(layer) + " were asked for when " + text(last - first) +
                 " layers from layer " + text(first) + " on had been routed";
        },
        "ask after the layer's forward");
    require(
        options.how == mode::training || layer + 1 == last, where,
        [&] { return std::string(what) + " of layer " + text(layer) + " are no longer there"; },
        "in inference a pass shows the last layer alone: start it with mode::training, or ask before the next forward");
  }

  /// The depth state before a layer is there once the layer before it was routed; in inference, the last two are.
  void state(index_t layer) const {
    const index_t last = at.backward ? at.reached : at.next + (at.halfway ? 1 : 0);
    require(
        layer >= first && layer <= end, where,
        [&] { return "the state before layer " + text(layer) + " was asked for"; },
        "ask for a layer of the range, or for the one behind it");
    require(
        layer <= last, where,
        [&] {
          return "the state before layer " + text(layer) + " was asked for when " + text(last - first) +
                 " layers from layer " + text(first) + " on had been routed";
        },
        "ask after the forward of the layer before");
    require(
        options.how == mode::training || layer + 1 >= last, where,
        [&] { return "the state before layer " + text(layer) + " is no longer there"; },
        "in inference a pass has the states before and after the last layer: start it with mode::training");
  }
  void state_gradient(std::string_view which, bool there) const {
    require(
        options.how == mode::training && there, where,
        [&] { return "the gradient of the " + std::string(which) + " state was asked for where there is none"; },
        "start the pass with mode::training, and ask for the first one after the last backward");
  }

 private:
  /// What the router is given apart from the experts.
  template <class T>
  void apart(std::string_view name, std::string_view what, const matrix_view<T>& m) const {
    if (options.router_input) {
      matrix(name, m);
      return;
    }
    require(
        m.data == nullptr, where, [&] { return "the router got " + std::string(what) + " of its own"; },
        "set pass_options::router_input");
  }
};

/// What a pass adds gradients to. `B` is its backend.
template <class B, class MixtureT, class C>
void check_gradients(const MixtureT& model, const gradients<C>& into) {
  require(
      into.layout().same_shapes(*model.layout()), "pass",
      [] { return std::string("the gradients belong to another layout"); }, "create them from this mixture's layout()");
  if constexpr (!on_host<B>)
    check_external(into.owns_marks() && model.experts() > 0, "pass", "the gradients", "make_gradients");
}

/// The sizes of a routing that a caller gives.
template <class C>
void check_given(const routing<C>& r, index_t tokens, index_t most) {
  const auto text = [](index_t n) { return std::to_string(n); };
  require(
      r.tokens() == tokens && r.offsets.size == tokens + 1, "routing",
      [&] { return "it is of " + text(r.tokens()) + " tokens, not " + text(tokens); }, "give offsets [tokens + 1]");
  require(
      r.offsets.data != nullptr && (r.entries() == 0 || (r.expert.data != nullptr && r.gate.data != nullptr &&
                                                         (r.column.size == 0 || r.column.data != nullptr))),
      "routing", [] { return std::string("one of its arrays is null"); }, "point them at your data");
  require(
      r.entries() <= most, "routing",
      [&] { return "it has " + text(r.entries()) + " entries, but the pass holds " + text(most); },
      "start the pass with pass_options::entries");
  require(
      r.gate.size == r.entries() && (r.column.size == r.entries() || r.column.size == 0), "routing",
      [&] {
        return "it has " + text(r.entries()) + " experts, " + text(r.gate.size) + " gates and " + text(r.column.size) +
               " columns";
      },
      "give one of each per entry, or no columns at all");
}

/// What it holds, where the host can read it, before anything of it is taken.
template <class C>
void check_given_ids(const routing<C>& r, index_t experts) {
  check_offsets(r.offsets, r.entries());
  for (index_t i = 0; i < r.entries(); ++i)
    require(
        r.expert[i] >= -1 && r.expert[i] < experts, "routing",
        [&] { return "entry " + std::to_string(i) + " names expert " + std::to_string(r.expert[i]); },
        "use ids from 0 to experts - 1, or -1 for an entry that runs nowhere");
}

}  // namespace moue::inline v0_1::detail
