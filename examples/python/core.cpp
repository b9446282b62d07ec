// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Models and passes of any composition for Python. Knows `any_model` alone: compositions are libraries of their own, which
// `load` opens. Arrays come in and go out where they lie, and never converted.

#include <dlfcn.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "arrays.hpp"
#include "trip.hpp"

namespace {

const char* kind_name(moue::error_kind kind) {
  switch (kind) {
    case moue::error_kind::misuse:
      return "misuse";
    case moue::error_kind::memory:
      return "memory";
    case moue::error_kind::numbers:
      return "numbers";
    case moue::error_kind::file:
      return "file";
    case moue::error_kind::content:
      return "content";
    case moue::error_kind::system:
      return "system";
  }
  return "misuse";
}

void raise(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const moue::error& e) {
    const nb::object type = nb::module_::import_("moue._error").attr("Error"), value = type(e.what());
    value.attr("kind") = kind_name(e.kind());
    PyErr_SetObject(type.ptr(), value.ptr());
  }
}

template <moue::Storage S>
nb::dict named(const std::shared_ptr<const moue::parameter_layout>& layout, moue::parameters<S> values) {
  auto* const kept = new moue::parameters<S>(std::move(values));
  const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<moue::parameters<S>*>(p); });
  nb::dict result;
  for (moue::index_t i = 0; i < layout->tensors(); ++i) {
    const auto& info = (*layout)[i];
    const nb::ndarray<nb::numpy, S, nb::ndim<2>> array((*kept)[i].data,
                                                       {std::size_t(info.rows), std::size_t(info.cols)}, owner);
    result[info.name.c_str()] = nb::cast(array);
  }
  return result;
}

template <moue::Storage S>
std::shared_ptr<const moue::any_model<S>> load(const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays open: models hold its code
  if (library == nullptr)
    throw moue::error("load", dlerror(), "compile the composition again", moue::error_kind::system);
  using made = std::shared_ptr<const moue::any_model<S>>*;
  const auto make =
      reinterpret_cast<made (*)()>(dlsym(library, sizeof(S) == 8 ? "moue_make_float64" : "moue_make_float32"));
  if (make == nullptr)
    throw moue::error("load", "'" + path + "' has no model of this type", "compile it with the same dtype");
  const std::unique_ptr<std::remove_pointer_t<made>> model(make());
  return *model;
}

template <moue::Storage S>
void bind(nb::module_& m, const std::string& dtype) {
  using model = moue::any_model<S>;
  using trip = python_pass<S>;
  const auto named_class = [&](const char* name) { return name + dtype; };

  nb::class_<model>(m, named_class("Model_").c_str(),
                    "A mixture that was compiled: what `moue.compile` returns. Never changes; threads may share it.")
      .def_prop_ro(
          "dtype", [dtype](const model&) { return dtype; }, "Of weights, inputs and outputs.")
      .def_prop_ro("width", &model::width, "Numbers per token.")
      .def_prop_ro("layers", &model::layers, "Layers, each of which is run once by a pass.")
      .def_prop_ro("experts", &model::experts, "Physical experts.")
      .def_prop_ro(
          "tensors",
          [](const model& self) {
            std::vector<tensor> list;
            for (const auto& info : *self.layout())
              list.push_back({info.name, info.rows, info.cols, info.layer, info.expert, info.trained, info.decayed});
            return list;
          },
          "All tensors of the weights, in their order.")
      .def(
          "candidates",
          [](const model& self, moue::index_t layer) {
            const auto list = self.connections().candidates(layer);
            return std::vector<std::int32_t>(list.begin(), list.end());
          },
          nb::arg("layer"), "The experts that a layer may use, in the order of its logits.")
      .def(
          "initialize",
          [](const model& self, std::uint64_t seed) { return named<S>(self.layout(), self.initialize(seed)); },
          nb::arg("seed") = 0, "Fresh weights: a dict of NumPy arrays [rows, cols] by name, in the order of `tensors`.")
      .def(
          "zeros", [](const model& self) { return named<S>(self.layout(), moue::parameters<S>(self.layout())); },
          "Zeros of the same shapes, for gradients.")
      .def(
          "start",
          [](std::shared_ptr<const model> self, nb::object weights, moue::index_t tokens, bool training,
             nb::object gradients) {
            return std::make_unique<trip>(std::move(self), weights, tokens, training, gradients);
          },
          nb::arg("weights"), nb::arg("tokens"), nb::arg("training") = true, nb::arg("gradients") = nb::none(),
          "A pass for batches of at most `tokens` tokens. `weights` and `gradients` are dicts or lists of arrays "
          "[rows, cols],"
          " one per tensor; they are used where they lie. `gradients` may be None, or hold None where none is wanted.");

  nb::class_<trip>(m, named_class("Pass_").c_str(),
                   "One batch's way through the layers and back. One thread at a time.")
      .def("begin", &trip::begin, nb::arg("tokens"), nb::arg("valid") = nb::none(), nb::arg("token_ids") = nb::none(),
           nb::arg("labels") = nb::none(), nb::arg("sequences") = nb::none(), nb::arg("side") = nb::none(),
           nb::arg("step") = 0, nb::arg("seed") = 0, nb::arg("first_token") = 0,
           "A new batch. `valid` [tokens], uint8 or bool, is 0 for padding; `token_ids` and `labels` [tokens] and "
           "`sequences` [sequences + 1], where each begins, are int64; `side` [tokens, any] is float32. Noise depends "
           "on "
           "`step`, `seed` and the token, counted from `first_token`.")
      .def("forward", &trip::forward, nb::arg("layer"), nb::arg("x").noconvert(), nb::arg("y").noconvert(),
           "Runs a layer: y [tokens, width] from x [tokens, width]. They may be the same array. Layers come in order.")
      .def("balance", &trip::balance, "The balancing loss of the layers that have run.")
      .def("balance_parts", &trip::balance_parts, "Its parts, if it is a sum.")
      .def("arm", &trip::arm, nb::arg("scale") = 1, "Gives the balancing loss, times `scale`, a gradient.")
      .def("backward", &trip::backward, nb::arg("layer"), nb::arg("dy").noconvert(), nb::arg("dx").noconvert(),
           "Goes back through a layer: dx [tokens, width] from dy [tokens, width], in reverse order of layers. "
           "Gradients of"
           " weights are added up in the arrays that `start` or `lend_gradients` was given.")
      .def("rewind", &trip::rewind, "To where forward ended, to go back once more.")
      .def("lend_gradients", &trip::lend_gradients, nb::arg("gradients"),
           "Other arrays for gradients, as for `start`. None of them holds numbers yet.")
      .def("live", &trip::live, nb::arg("tensor"),
           "Whether the gradient of tensor number `tensor` holds numbers: those of experts that no token reached do "
           "not.")
      .def("finish_gradients", &trip::finish_gradients, "Zeros in every gradient that does not hold numbers.")
      .def("reset_gradients", &trip::reset_gradients, "No gradient holds numbers: the next backward overwrites them.")
      .def(
          "assignments",
          [](nb::object self, moue::index_t layer) {
            const auto r = nb::cast<const trip&>(self).assignments(layer);
            return nb::make_tuple(shown(r.offsets, self), shown(r.expert, self), shown(r.gate, self));
          },
          nb::arg("layer"),
          "(offsets [tokens + 1], experts, gates): token t owns entries offsets[t] to offsets[t + 1]."
          " Views, until the pass goes on.")
      .def(
          "logits",
          [](nb::object self, moue::index_t layer) {
            const auto z = nb::cast<const trip&>(self).logits(layer);
            return nb::cast(nb::ndarray<nb::numpy, const S, nb::ndim<2>>(
                z.data, {std::size_t(z.rows), std::size_t(z.cols)}, self, {z.stride, 1}));
          },
          nb::arg("layer"), "[tokens, candidates of the layer]. A view, until the pass goes on.")
      .def_prop_ro("tokens", &trip::tokens, "Of the batch.");
  m.def(("load_" + dtype).c_str(), &load<S>, nb::arg("path"), "The model in a library that `moue.compile` made.");
}

}  // namespace

NB_MODULE(_core, m) {
  // A graph of torch's that is alive when the program ends is never freed, and would be reported as a leak of ours.
  nb::set_leak_warnings(false);
  m.doc() = "Models and passes of any composition. Use `moue.compile` to make a model.";
  nb::register_exception_translator(raise);
  nb::class_<tensor>(m, "Tensor", "One tensor of the weights.")
      .def_ro("name", &tensor::name, "Such as experts.3.up.")
      .def_ro("rows", &tensor::rows, "Of the matrix.")
      .def_ro("cols", &tensor::cols, "Of the matrix.")
      .def_ro("layer", &tensor::layer, "That it belongs to, or -1.")
      .def_ro("expert", &tensor::expert, "That it belongs to, or -1.")
      .def_ro("trained", &tensor::trained, "Whether it gets a gradient.")
      .def_ro("decayed", &tensor::decayed, "Whether weight decay suits it.");
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}
