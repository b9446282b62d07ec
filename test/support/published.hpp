// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One layer of a published system, every number of which was computed independently of this library; see
// data/systems/README.md.

#include <doctest/doctest.h>

#include <cstdint>
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

  /// Values or gradients of a tensor of ours, in its own order; empty if there are none.
  std::vector<double> tensor(const json& section, const moue::tensor_info& info) const {
    if (info.expert < 0)
      return info.trained ? numbers(section.at(info.name.ends_with(".noise") ? "Wn"
                                               : section.contains("W")       ? "W"
                                                                             : "Wg"))
                          : std::vector<double>{};
    const bool shared = info.expert >= candidates(), gated = section.contains("W3");
    const std::string kind = info.name.substr(info.name.rfind('.') + 1);
    const std::string theirs = (kind == "down"          ? "W2"
                                : kind == "up" && gated ? "W3"
                                                        : "W1") +
                               std::string(shared ? "s" : "");
    const auto of_all = numbers(section.at(theirs));
    const auto size = static_cast<std::size_t>(info.size());
    const auto first = shared ? 0 : static_cast<std::size_t>(info.expert) * size;
    std::vector<double> result(size);  // theirs are transposed
    for (moue::index_t i = 0; i < info.rows; ++i)
      for (moue::index_t j = 0; j < info.cols; ++j)
        result[static_cast<std::size_t>(i * info.cols + j)] =
            of_all[first + static_cast<std::size_t>(j * info.rows + i)];
    return result;
  }
  const json& section(const char* name) const { return data_[name]; }

 private:
  std::vector<std::uint8_t> bytes(const char* name) const {
    return data_["side"].at(name).at("data").get<std::vector<std::uint8_t>>();
  }
  golden data_;
};

/// Runs the layer there and compares all of it. `terms`: the parts of the balancing loss, in order.
inline void reproduce(const published_layer& layer, const any_model<double>& model,
                      const std::vector<const char*>& terms) {
  const auto near = [](const std::vector<double>& a, const std::vector<double>& b) {
    return distance(a, b, 1) < golden_tolerance;
  };
  const moue::index_t tokens = layer.tokens(), n = layer.candidates();
  const auto valid = layer.valid(), open = layer.open();
  const auto sequences = layer.sequences();
  moue::parameters<double> weights(model.layout());
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& info = weights.layout()[i];
    auto values = layer.tensor(layer.section("params"), info);
    if (!info.trained)  // a bias of selections, or one that closes
      for (moue::index_t j = 0; j < n; ++j)
        values.push_back(layer.section("side").contains("bias")   ? layer.side("bias")[static_cast<std::size_t>(j)]
                         : open[static_cast<std::size_t>(j)] == 0 ? moue::detail::minus_infinity<double>()
                                                                  : 0.0);
    std::copy(values.begin(), values.end(), weights[i].data);
  }
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes(options));
  const auto pass = model.start(weights, options, scratch);
  auto x = numbers(layer.section("inputs").at("x")), y = x, dx = numbers(layer.section("loss").at("weight"));
  const auto rows = [&](std::vector<double>& v) { return moue::matrix_view<double>{v.data(), tokens, layer.width()}; };
  moue::side_inputs inputs;
  inputs.valid = {valid.data(), tokens};
  inputs.sequences = {sequences.data(), std::ssize(sequences)};
  pass->begin(tokens, inputs, {.seed = 1});
  pass->forward(0, rows(x), rows(y));

  const auto& expected = layer.all().at("layers")[0];
  CHECK(near(y, numbers(layer.all().at("y"))));
  const auto assigned = pass->assignments(0);
  std::vector<double> gates(static_cast<std::size_t>(tokens * n), 0);
  for (moue::index_t t = 0; t < tokens; ++t)
    for (moue::index_t i = assigned.offsets[t]; i < assigned.offsets[t + 1]; ++i)
      if (assigned.expert[i] >= 0 && assigned.column[i] >= 0)
        gates[static_cast<std::size_t>(t * n + assigned.column[i])] += assigned.gate[i];
  CHECK(near(gates, numbers(expected.at("gate_matrix"))));
  const auto selected = pass->selected(0);
  std::vector<double> mask(gates.size(), 0);
  for (moue::index_t t = 0; t < tokens; ++t)
    for (const auto column : selected.row(t))
      if (column >= 0) mask[static_cast<std::size_t>(t * n + column)] = 1;
  CHECK(mask == numbers(expected.at("mask")));

  const auto balance = pass->balance();
  REQUIRE(balance.parts.size() == terms.size());
  for (std::size_t i = 0; i < terms.size(); ++i) {
    CAPTURE(terms[i]);
    const double theirs = layer.all().at("terms").at(terms[i]);
    CHECK(near({balance.parts[i]}, {layer.weight(terms[i]) * theirs}));
  }
  pass->arm();
  moue::gradients<double> gradients(model.layout());
  pass->backward(0, rows(dx), rows(dx), gradients);
  gradients.finish();
  const auto& grads = layer.all().at("grads");
  CHECK(near(dx, numbers(grads.at("x"))));
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& info = weights.layout()[i];
    if (!info.trained) continue;
    CAPTURE(info.name);
    CHECK(near(list(gradients[i], false), layer.tensor(grads, info)));
  }
}

}  // namespace test
