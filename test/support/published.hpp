// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A layer of a published system, or a stack of them, every number of which was computed independently of this
// library; see data/systems/README.md.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "golden.hpp"

namespace test {

class published_layer {
 public:
  explicit published_layer(const std::string& name) : data_("systems/" + name) {}

  const json& config(const char* key) const { return data_["config"].at(key); }
  moue::index_t tokens() const { return config("T"); }
  moue::index_t width() const { return config("d"); }
  moue::index_t hidden() const { return config("h"); }
  moue::index_t candidates() const { return config("E"); }
  bool stacked() const { return data_["config"].contains("L"); }
  moue::index_t layers() const { return stacked() ? config("L").get<moue::index_t>() : 1; }
  double weight(const char* term) const { return config("coef").at(term); }
  std::vector<double> side(const char* name) const { return numbers(data_["side"].at(name)); }
  double expected(const char* what) const { return data_["expected"].at(what); }
  const json& all() const { return data_["expected"]; }

  /// The batch; `sequences` from the first to the last of `offsets`.
  std::vector<std::uint8_t> valid() const { return bytes("token_mask"); }
  std::vector<std::uint8_t> open() const { return bytes("open"); }
  std::vector<moue::index_t> sequences() const {
    if (!data_["side"].contains("offsets")) return {};
    return data_["side"].at("offsets").at("data").get<std::vector<moue::index_t>>();
  }

  /// Values or gradients of a tensor of ours, in its own order; empty if it is a buffer.
  std::vector<double> tensor(const json& section, const moue::tensor_info& info) const {
    if (!info.trained) return {};
    const auto at = place_of(section, info);
    const json& all = section.at(at.name);
    if (all.is_number()) return {all.get<double>()};
    const auto values = numbers(all);
    const auto size = static_cast<std::size_t>(info.size());
    std::vector<double> result(size);
    for (moue::index_t i = 0; i < info.rows; ++i)
      for (moue::index_t j = 0; j < info.cols; ++j)
        result[static_cast<std::size_t>(i * info.cols + j)] =
            values[static_cast<std::size_t>(at.block) * size +
                   static_cast<std::size_t>(at.transposed ? j * info.rows + i : i * info.cols + j)];
    return result;
  }
  const json& section(const char* name) const { return data_[name]; }

 private:
  /// Where a tensor of ours stands among theirs: they lie one behind the other, layer by layer and expert by expert.
  struct place {
    std::string name;
    moue::index_t block = 0;
    bool transposed = false;
  };
  place place_of(const json& section, const moue::tensor_info& info) const {
    const std::string kind = info.name.substr(info.name.rfind('.') + 1);
    if (kind == "mu") return {"mu", 0, true};
    if (kind == "scale") return {section.contains("a") ? "a" : "scale"};
    if (kind == "noise") return {"Wn"};
    if (info.expert < 0) {
      const bool first = kind == "weight" && section.contains("W");
      return {first ? "W" : "Wg", std::max<moue::index_t>(info.layer, 0)};
    }
    const moue::index_t pool = layers() * candidates();
    const auto of_kind = [&](moue::index_t first, moue::index_t last) {  // experts that have such a tensor
      moue::index_t count = 0;
      for (moue::index_t e = first; e < last; ++e) count += this->kind(e) == this->kind(info.expert);
      return count;
    };
    const moue::index_t block = info.expert < pool ? of_kind(0, info.expert) : 0;
    if (kind == "mix") return {"Wc", block};
    if (kind == "vector") return {"v", block};
    const std::string theirs = kind == "down" ? "W2" : kind == "up" && section.contains("W3") ? "W3" : "W1";
    return {theirs + (info.expert < pool ? "" : "s"), block, true};
  }
  moue::index_t kind(moue::index_t expert) const {
    if (!data_["side"].contains("expert_kind")) return 0;
    return data_["side"].at("expert_kind").at("data").at(static_cast<std::size_t>(expert % candidates()));
  }
  std::vector<std::uint8_t> bytes(const char* name) const {
    return data_["side"].at(name).at("data").get<std::vector<std::uint8_t>>();
  }
  golden data_;
};

/// Whether all numbers agree with theirs.
inline bool near(const std::vector<double>& a, const std::vector<double>& b) {
  return distance(a, b, 1) < golden_tolerance;
}

/// Their weights, and in buffers a bias of selections, or one that closes.
inline moue::parameters<double> weights_of(const published_layer& layer,
                                           std::shared_ptr<const moue::parameter_layout> layout) {
  moue::parameters<double> weights(std::move(layout));
  const auto open = layer.open();
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& info = weights.layout()[i];
    auto values = layer.tensor(layer.section("params"), info);
    const auto& side = layer.section("side");
    const char* bias = side.contains("selection_bias") ? "selection_bias" : "bias";
    const bool selects = info.name.ends_with(".selection_bias") && side.contains(bias);
    if (!info.trained)
      for (moue::index_t j = 0; j < layer.candidates(); ++j)
        values.push_back(selects                                  ? layer.side(bias)[static_cast<std::size_t>(j)]
                         : open[static_cast<std::size_t>(j)] == 0 ? moue::detail::minus_infinity<double>()
                                                                  : 0.0);
    std::copy(values.begin(), values.end(), weights[i].data);
  }
  return weights;
}

inline void compare_gradients(const published_layer& layer, const moue::gradients<double>& gradients) {
  const auto& grads = layer.all().at("grads");
  for (moue::index_t i = 0; i < gradients.layout().tensors(); ++i) {
    const auto& info = gradients.layout()[i];
    if (!info.trained) continue;
    CAPTURE(info.name);
    CHECK(near(list(gradients[i], false), layer.tensor(grads, info)));
  }
}

/// What one layer of a forward pass made of its input.
inline void compare_layer(const published_layer& layer, any_pass<double>& pass, moue::index_t at) {
  CAPTURE(at);
  const auto& expected = layer.all().at("layers")[static_cast<std::size_t>(at)];
  const moue::index_t tokens = layer.tokens(), n = layer.candidates();
  const auto assigned = pass.assignments(at);
  std::vector<double> gates(static_cast<std::size_t>(tokens * n), 0);
  for (moue::index_t t = 0; t < tokens; ++t)
    for (moue::index_t i = assigned.offsets[t]; i < assigned.offsets[t + 1]; ++i)
      if (assigned.expert[i] >= 0 && assigned.column[i] >= 0)
        gates[static_cast<std::size_t>(t * n + assigned.column[i])] += assigned.gate[i];
  CHECK(near(gates, numbers(expected.at("gate_matrix"))));
  const auto selected = pass.selected(at);
  std::vector<double> mask(gates.size(), 0);
  for (moue::index_t t = 0; t < tokens; ++t)
    for (const auto column : selected.row(t))
      if (column >= 0) mask[static_cast<std::size_t>(t * n + column)] = 1;
  CHECK(mask == numbers(expected.at("mask")));
  if (expected.contains("state_in")) CHECK(near(to_vector(pass.state(at)), numbers(expected.at("state_in"))));
}

/// Runs the layer there, or the stack with residual connections, and compares all of it. `terms`: the parts of the
/// balancing loss, in order.
inline void reproduce(const published_layer& layer, const any_model<double>& model,
                      const std::vector<const char*>& terms) {
  const moue::index_t tokens = layer.tokens();
  const auto valid = layer.valid();
  const auto sequences = layer.sequences();
  const auto weights = weights_of(layer, model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes(options));
  const auto pass = model.start(weights, options, scratch);
  auto x = numbers(layer.section("inputs").at("x")), dx = numbers(layer.section("loss").at("weight"));
  const auto rows = [&](std::vector<double>& v) { return moue::matrix_view<double>{v.data(), tokens, layer.width()}; };
  const auto step = [&](std::vector<double>& to, const auto& run) {
    auto before = to;
    run(to);
    for (std::size_t i = 0; i < to.size() && layer.stacked(); ++i) to[i] += before[i];
  };
  moue::side_inputs inputs;
  inputs.valid = {valid.data(), tokens};
  inputs.sequences = {sequences.data(), std::ssize(sequences)};
  pass->begin(tokens, inputs, {.seed = 1});
  for (moue::index_t at = 0; at < layer.layers(); ++at) {
    step(x, [&](auto& to) { pass->forward(at, rows(to), rows(to)); });
    compare_layer(layer, *pass, at);
  }
  CHECK(near(x, numbers(layer.all().at("y"))));

  const auto balance = pass->balance();
  REQUIRE(balance.parts.size() == terms.size());
  for (std::size_t i = 0; i < terms.size(); ++i) {
    CAPTURE(terms[i]);
    const double theirs = layer.all().at("terms").at(terms[i]);
    CHECK(near({balance.parts[i]}, {layer.weight(terms[i]) * theirs}));
  }
  pass->arm();
  moue::gradients<double> gradients(model.layout());
  for (moue::index_t at = layer.layers(); at-- > 0;)
    step(dx, [&](auto& to) { pass->backward(at, rows(to), rows(to), gradients); });
  gradients.finish();
  CHECK(near(dx, numbers(layer.all().at("grads").at("x"))));
  compare_gradients(layer, gradients);
}

}  // namespace test
