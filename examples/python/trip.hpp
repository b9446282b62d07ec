// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A pass with what it needs: Python's arrays, and scratch memory.

#include <memory>
#include <moue/any.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"

/// `tensor_info` for Python.
struct tensor {
  std::string name;
  moue::index_t rows, cols, layer, expert;
  bool trained, decayed;
};

template <moue::Storage S>
class python_pass {
 public:
  python_pass(std::shared_ptr<const moue::any_model<S>> model, nb::handle weights, moue::index_t tokens, bool training,
              nb::handle gradients)
      : model_(std::move(model)), weight_arrays_(arrays_of<read_array>(weights)) {
    const moue::pass_options options{.tokens = tokens, .how = training ? moue::mode::training : moue::mode::inference};
    weights_.emplace(model_->layout(), pointers<const S>(weight_arrays_, "weights", false));
    scratch_.emplace(model_->workspace_bytes(options));
    run_ = model_->start(*weights_, options, *scratch_);
    lend_gradients(gradients);
  }

  void lend_gradients(nb::handle gradients) {
    if (gradients.is_none()) {
      gradients_.emplace(model_->layout(), [](const moue::tensor_info&) { return false; });
      gradient_arrays_.clear();
      return;
    }
    auto arrays = arrays_of<written_array>(gradients);
    gradients_.emplace(model_->layout(), pointers<S>(arrays, "gradients", true));
    gradient_arrays_ = std::move(arrays);
  }

  void begin(moue::index_t tokens, std::optional<read_array> valid, std::optional<read_array> token_ids,
             std::optional<read_array> labels, std::optional<read_array> sequences, std::optional<read_array> side,
             std::uint64_t step, std::uint64_t seed, moue::index_t first_token) {
    moue::side_inputs inputs;
    if (valid) inputs.valid = list_of<std::uint8_t>(*valid, "valid");
    if (token_ids) inputs.token_ids = list_of<std::int64_t>(*token_ids, "token_ids");
    if (labels) inputs.labels = list_of<std::int64_t>(*labels, "labels");
    if (sequences) inputs.sequences = list_of<moue::index_t>(*sequences, "sequences");
    if (side) inputs.side = rows_of<float>(*side, "side");
    run_->begin(tokens, inputs, {.step = step, .seed = seed, .first_token = first_token});
    valid_ = std::move(valid), token_ids_ = std::move(token_ids), labels_ = std::move(labels);
    sequences_ = std::move(sequences), side_ = std::move(side);
  }
  void forward(moue::index_t layer, const read_array& x, const written_array& y) {
    const auto from = rows_of<S>(x, "x");
    const auto to = rows_of<S>(y, "y");
    const nb::gil_scoped_release others_run;
    run_->forward(layer, from, to);
  }
  void backward(moue::index_t layer, const read_array& dy, const written_array& dx) {
    const auto from = rows_of<S>(dy, "dy");
    const auto to = rows_of<S>(dx, "dx");
    const nb::gil_scoped_release others_run;
    run_->backward(layer, from, to, *gradients_);
  }
  S balance() const { return run_->balance(); }
  std::vector<S> balance_parts() const { return run_->balance().parts; }
  void arm(S scale) { run_->arm(scale); }
  void rewind() { run_->rewind(); }

  bool live(moue::index_t tensor) const { return gradients_->live(tensor); }
  void finish_gradients() { gradients_->finish(); }
  void reset_gradients() { gradients_->reset(); }
  moue::index_t tokens() const { return run_->tokens(); }
  moue::routing<S> assignments(moue::index_t layer) const { return run_->assignments(layer); }
  moue::matrix_view<const S> logits(moue::index_t layer) const { return run_->logits(layer); }

 private:
  /// One pointer per tensor, of arrays whose shapes fit.
  template <class T, class Array>
  std::vector<T*> pointers(const std::vector<Array>& arrays, const std::string& what, bool some_missing) const {
    const auto kept = model_->layout();
    const auto& layout = *kept;
    if (static_cast<moue::index_t>(arrays.size()) != layout.tensors())
      throw moue::error("python",
                        std::to_string(arrays.size()) + " " + what + " were given for " +
                            std::to_string(layout.tensors()) + " tensors",
                        "give one array per tensor, in the order of the model's tensors");
    std::vector<T*> result;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      const auto& info = layout[static_cast<moue::index_t>(i)];
      const auto& array = arrays[i];
      const std::string name = "'" + info.name + "' of the " + what;
      if (!array.is_valid()) {
        if (!some_missing) throw moue::error("python", name + " is None", "give an array");
        result.push_back(nullptr);
        continue;
      }
      require_array<std::remove_const_t<T>>(array, 2, name);
      const auto rows = moue::index_t(array.shape(0)), cols = moue::index_t(array.shape(1));
      if (rows != info.rows || cols != info.cols || (rows > 1 && array.stride(0) != cols))
        throw moue::error("python",
                          name + " is [" + std::to_string(rows) + ", " + std::to_string(cols) + "], not contiguous [" +
                              std::to_string(info.rows) + ", " + std::to_string(info.cols) + "]",
                          "give arrays with the shapes of the model's tensors, without gaps");
      result.push_back(static_cast<T*>(array.data()));
    }
    return result;
  }

  std::shared_ptr<const moue::any_model<S>> model_;
  std::vector<read_array> weight_arrays_;  // keep the memory of others alive
  std::vector<written_array> gradient_arrays_;
  std::optional<read_array> valid_, token_ids_, labels_, sequences_, side_;
  std::optional<moue::parameters<S>> weights_;
  std::optional<moue::gradients<S>> gradients_;
  std::optional<moue::workspace> scratch_;
  std::unique_ptr<moue::any_pass<S>> run_;
};
