// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The C interface over `any_model`: no template of a composition, no Eigen.

#include "moue_c.h"

#include <exception>
#include <memory>
#include <moue/train/adamw.hpp>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models.hpp"

struct moue_model {
  shared_model model;
};

struct moue_pass {
  moue::parameters<float> weights;
  std::optional<moue::gradients<float>> gradients;
  moue::workspace scratch;
  std::unique_ptr<moue::any_pass<float>> run;
};

struct moue_adamw {
  moue::parameters<float> weights;
  moue::adamw<float> rule;
};

namespace {

thread_local std::string last_error;

moue_status failed(moue_status status, const char* text) noexcept {
  try {
    last_error = text;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

moue_status status_of(moue::error_kind kind) {
  switch (kind) {
    case moue::error_kind::misuse:
      return MOUE_MISUSE;
    case moue::error_kind::memory:
      return MOUE_MEMORY;
    case moue::error_kind::numbers:
      return MOUE_NUMBERS;
    case moue::error_kind::file:
      return MOUE_FILE;
    case moue::error_kind::content:
      return MOUE_CONTENT;
    case moue::error_kind::system:
      return MOUE_SYSTEM;
  }
  return MOUE_INTERNAL;
}

/// Runs `act`. No exception passes: C has no way to catch one.
template <class Act>
moue_status guarded(const Act& act) noexcept {
  try {
    act();
    return MOUE_OK;
  } catch (const moue::error& e) {
    return failed(status_of(e.kind()), e.what());
  } catch (const std::bad_alloc&) {
    return failed(MOUE_MEMORY, "moue: memory: the machine has no more; use fewer tokens or smaller models");
  } catch (const std::exception& e) {
    return failed(MOUE_INTERNAL, e.what());
  } catch (...) {
    return failed(MOUE_INTERNAL, "moue: an exception of an unknown type");
  }
}

[[noreturn]] void refuse(const std::string& what, std::string_view fix) { throw moue::error("c", what, fix); }

template <class T>
T& given(T* pointer, const char* name) {
  if (pointer == nullptr) refuse(std::string("'") + name + "' is null", "give one");
  return *pointer;
}

std::span<float* const> one_per_tensor(const moue::parameter_layout& layout, float* const* pointers, const char* name) {
  return {&given(pointers, name), static_cast<std::size_t>(layout.tensors())};
}

/// Those of a `moue_pass`, const or not.
auto& gradients_of(auto& pass) {
  if (!pass.gradients) refuse("the pass has no gradients", "start one for training");
  return *pass.gradients;
}

moue::pass_options options(ptrdiff_t tokens, int training) {
  return {.tokens = tokens, .how = training != 0 ? moue::mode::training : moue::mode::inference};
}

moue::matrix_view<const float> view(const moue_const_rows& m) { return {m.data, m.rows, m.cols, m.stride}; }
moue::matrix_view<float> view(const moue_rows& m) { return {m.data, m.rows, m.cols, m.stride}; }

moue::table topology_of(const moue_usual& what) {
  if (what.layers < 1 || what.layers > 1'000'000)
    refuse("there are " + std::to_string(what.layers) + " layers", "say how many");
  if ((what.offsets == nullptr) != (what.candidates == nullptr))
    refuse("one of 'offsets' and 'candidates' is null", "give both, or none for experts that all layers may use");
  moue::table result{what.experts, std::vector<std::vector<moue::index_t>>(static_cast<std::size_t>(what.layers))};
  for (ptrdiff_t layer = 0; layer < what.layers; ++layer) {
    auto& row = result.rows[static_cast<std::size_t>(layer)];
    if (what.offsets == nullptr) {
      for (ptrdiff_t e = 0; e < what.experts; ++e) row.push_back(e);
    } else {
      if (what.offsets[layer] < 0 || what.offsets[layer + 1] < what.offsets[layer])
        refuse("the offsets of layer " + std::to_string(layer) + " do not ascend",
               "count from 0, in the order of layers");
      row.assign(what.candidates + what.offsets[layer], what.candidates + what.offsets[layer + 1]);
    }
  }
  return result;
}

shared_model make_usual(const moue_usual& what) {
  if (what.size != sizeof(moue_usual))
    refuse("'size' is " + std::to_string(what.size) + ", not " + std::to_string(sizeof(moue_usual)),
           "set it to sizeof(moue_usual), and compile with the header of this library");
  const usual_settings settings{.router = &given(what.router, "router"),
                                .width = what.width,
                                .hidden = what.hidden,
                                .selected = what.selected,
                                .topology = topology_of(what),
                                .switch_loss = what.switch_loss,
                                .universal_balance = what.universal_balance,
                                .threads = what.threads};
  const std::string_view expert = &given(what.expert, "expert");
  if (expert == "swiglu") return make_usual_swiglu(settings);
  if (expert == "gelu") return make_usual_gelu(settings);
  refuse("no expert is called '" + std::string(expert) + "'", "say swiglu or gelu");
}

}  // namespace

extern "C" {

int moue_c_version(void) { return MOUE_C_VERSION; }
const char* moue_last_error(void) { return last_error.c_str(); }

moue_status moue_create_usual(const moue_usual* what, moue_model** out) {
  return guarded([&] {
    given(out, "out");
    *out = new moue_model{make_usual(given(what, "what"))};
  });
}
moue_status moue_create_frozen(ptrdiff_t width, moue_model** out) {
  return guarded([&] {
    given(out, "out");
    *out = new moue_model{make_frozen(width)};
  });
}
void moue_destroy(moue_model* model) { delete model; }

ptrdiff_t moue_width(const moue_model* model) { return model->model->width(); }
ptrdiff_t moue_layers(const moue_model* model) { return model->model->layers(); }
ptrdiff_t moue_experts(const moue_model* model) { return model->model->experts(); }
ptrdiff_t moue_tensors(const moue_model* model) { return model->model->layout()->tensors(); }

moue_status moue_tensor_at(const moue_model* model, ptrdiff_t tensor, moue_tensor* out) {
  return guarded([&] {
    const auto layout = given(model, "model").model->layout();  // the model keeps it, and the name in it
    const auto& info = (*layout)[tensor];
    given(out, "out") = {info.name.c_str(), info.rows, info.cols, info.layer, info.expert, info.trained ? 1 : 0};
  });
}
moue_status moue_initialize(const moue_model* model, uint64_t seed, float* const* weights) {
  return guarded([&] {
    const auto layout = given(model, "model").model->layout();
    moue::parameters<float> values(layout, one_per_tensor(*layout, weights, "weights"));
    moue::initialize(values, seed);
  });
}

moue_status moue_workspace_bytes(const moue_model* model, ptrdiff_t tokens, int training, size_t* out) {
  return guarded([&] { given(out, "out") = given(model, "model").model->workspace_bytes(options(tokens, training)); });
}
moue_status moue_start(const moue_model* model, float* const* weights, float* const* gradients, ptrdiff_t tokens,
                       int training, void* scratch, size_t bytes, moue_pass** out) {
  return guarded([&] {
    const auto layout = given(model, "model").model->layout();
    given(static_cast<std::byte*>(scratch), "scratch"), given(out, "out");
    auto pass = std::unique_ptr<moue_pass>(
        new moue_pass{moue::parameters<float>(layout, one_per_tensor(*layout, weights, "weights")),
                      {},
                      moue::workspace(std::span(static_cast<std::byte*>(scratch), bytes)),
                      {}});
    if (gradients != nullptr) pass->gradients.emplace(layout, one_per_tensor(*layout, gradients, "gradients"));
    if (training != 0 && gradients == nullptr)
      pass->gradients.emplace(layout, [](const moue::tensor_info&) { return false; });
    pass->run = model->model->start(pass->weights, options(tokens, training), pass->scratch);
    *out = pass.release();
  });
}
void moue_end(moue_pass* pass) { delete pass; }

moue_status moue_begin(moue_pass* pass, ptrdiff_t tokens, const uint8_t* valid) {
  return guarded([&] { given(pass, "pass").run->begin(tokens, {.valid = {valid, valid == nullptr ? 0 : tokens}}); });
}
moue_status moue_forward(moue_pass* pass, ptrdiff_t layer, moue_const_rows x, moue_rows y) {
  return guarded([&] { given(pass, "pass").run->forward(layer, view(x), view(y)); });
}
moue_status moue_balance(const moue_pass* pass, float* out) {
  return guarded([&] { given(out, "out") = given(pass, "pass").run->balance(); });
}
moue_status moue_arm(moue_pass* pass, float scale) {
  return guarded([&] { given(pass, "pass").run->arm(scale); });
}
moue_status moue_backward(moue_pass* pass, ptrdiff_t layer, moue_const_rows dy, moue_rows dx) {
  return guarded([&] { given(pass, "pass").run->backward(layer, view(dy), view(dx), gradients_of(*pass)); });
}
moue_status moue_rewind(moue_pass* pass) {
  return guarded([&] { given(pass, "pass").run->rewind(); });
}
moue_status moue_assigned(const moue_pass* pass, ptrdiff_t layer, moue_assignments* out) {
  return guarded([&] {
    const auto r = given(pass, "pass").run->assignments(layer);
    given(out, "out") = {r.tokens(), r.entries(), r.offsets.data, r.expert.data, r.gate.data};
  });
}

moue_status moue_live(const moue_pass* pass, ptrdiff_t tensor, int* out) {
  return guarded([&] {
    const bool live = gradients_of(given(pass, "pass")).live(tensor);
    given(out, "out") = live ? 1 : 0;
  });
}
moue_status moue_reset_gradients(moue_pass* pass) {
  return guarded([&] { gradients_of(given(pass, "pass")).reset(); });
}

moue_status moue_adamw_create(const moue_model* model, float* const* weights, double decay, moue_adamw** out) {
  return guarded([&] {
    given(out, "out");
    const auto layout = given(model, "model").model->layout();
    moue::parameters<float> values(layout, one_per_tensor(*layout, weights, "weights"));
    moue::adamw<float> rule(values, {.weight_decay = decay});
    *out = new moue_adamw{std::move(values), std::move(rule)};
  });
}
moue_status moue_adamw_step(moue_adamw* optimiser, const moue_pass* pass, double learning_rate) {
  return guarded([&] {
    given(optimiser, "optimiser").rule.step(optimiser->weights, gradients_of(given(pass, "pass")), learning_rate);
  });
}
void moue_adamw_destroy(moue_adamw* optimiser) { delete optimiser; }

}  // extern "C"
