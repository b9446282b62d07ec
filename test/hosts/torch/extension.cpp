// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Trips as an extension module of Python, built by torch.utils.cpp_extension. The weights are the caller's: a module of
// torch.nn holds them.

#include <torch/extension.h>

#include <moue/adapt/torch.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models.hpp"

namespace py = pybind11;

namespace {

template <moue::Storage S>
struct model {
  std::shared_ptr<const moue::any_model<S>> it;

  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& info : *it->layout()) result.push_back(info.name);
    return result;
  }
  std::vector<at::Tensor> initial(std::uint64_t seed) const {
    std::vector<at::Tensor> result;
    for (const auto& t : moue::torch_mixture<S>(it, seed).parameters()) result.push_back(t.detach());
    return result;
  }
  moue::torch_trip<S> start(const std::vector<at::Tensor>& weights, int64_t tokens, std::optional<at::Tensor> valid,
                            std::optional<at::Tensor> state, int64_t first, int64_t count) const {
    moue::torch_batch batch{.tokens = tokens, .first = first, .count = count};
    if (valid) batch.valid = *valid;
    if (state) batch.state = *state;
    return {it, weights, batch};
  }
};

template <moue::Storage S>
void define(py::module& m, const std::string& type) {
  using trip = moue::torch_trip<S>;
  using ended = moue::torch_ended<S>;
  const py::call_guard<py::gil_scoped_release> unlocked;
  py::class_<model<S>>(m, ("Model_" + type).c_str())
      .def(py::init([](const std::string& name) { return model<S>{make_model<S>(name)}; }))
      .def_property_readonly("names", &model<S>::names)
      .def_property_readonly("layers", [](const model<S>& self) { return self.it->layers(); })
      .def_property_readonly("state_width", [](const model<S>& self) { return self.it->state_width(); })
      .def_property_readonly("owners", [](const model<S>& self) { return self.it.use_count(); })
      .def("candidates",
           [](const model<S>& self, moue::index_t layer) {
             const auto ids = self.it->connections().candidates(layer);
             return std::vector<int64_t>(ids.begin(), ids.end());
           })
      .def("initial", &model<S>::initial)
      .def("start", &model<S>::start, py::arg("weights"), py::arg("tokens"), py::arg("valid") = py::none(),
           py::arg("state") = py::none(), py::arg("first") = 0, py::arg("count") = -1);
  py::class_<trip>(m, ("Trip_" + type).c_str())
      .def("forward", &trip::forward, unlocked)
      .def("balance", &trip::balance, unlocked)
      .def("state", &trip::state, unlocked)
      .def("end", &trip::end, unlocked);
  py::class_<ended>(m, ("Ended_" + type).c_str());
  m.def(
      "balance", [](const std::vector<ended>& trips) { return moue::torch_balance(std::span(trips)); }, unlocked);
}

template <moue::Storage S>
void define_experts(py::module& m, const std::string& type) {
  using experts = moue::torch_experts<S>;
  py::class_<experts>(m, ("Experts_" + type).c_str())
      .def(py::init(&make_experts<S>))
      .def_property_readonly("shapes",
                             [](const experts& self) {
                               std::vector<std::pair<moue::index_t, moue::index_t>> result;
                               for (const auto& info : self.layout()) result.emplace_back(info.rows, info.cols);
                               return result;
                             })
      .def(
          "__call__",
          [](const experts& self, const at::Tensor& x, const at::Tensor& ids, const at::Tensor& gates,
             const std::vector<at::Tensor>& weights) { return self(x, ids, gates, weights); },
          py::call_guard<py::gil_scoped_release>());
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  define<double>(m, "double");
  define<float>(m, "float");
  define<moue::bf16>(m, "bf16");
  define_experts<double>(m, "double");
}
