// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A mixture on a backend with memory of its own, behind the same virtual functions as one on the host: whatever a test
// hands over is carried there, and whatever it asks for is carried back. So every test of the core runs there too.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "any_model.hpp"

namespace test {

/// A buffer in the memory of `Backend`, which offers `allocate(bytes)` and `release(pointer)`.
template <class Backend>
class there {
 public:
  there(const Backend& backend, std::size_t bytes)
      : backend_(backend), data_(backend_.allocate(bytes > 0 ? bytes : 1)) {}
  ~there() { backend_.release(data_); }
  there(const there&) = delete;
  there& operator=(const there&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  Backend backend_;
  void* data_;
};

/// Carries arrays to and fro, and keeps what it made alive.
template <class Backend>
class carrier {
 public:
  explicit carrier(Backend backend) : backend_(std::move(backend)) {}

  template <class T>
  T* make(moue::index_t count) {
    saved_.push_back(std::make_unique<there<Backend>>(backend_, static_cast<std::size_t>(count) * sizeof(T)));
    return saved_.back()->template as<T>();
  }
  template <class T>
  void send(const T* from, T* to, moue::index_t count) const {
    if (count > 0) backend_.upload(std::span<const T>(from, static_cast<std::size_t>(count)), to);
  }
  template <class T>
  void fetch(const T* from, T* to, moue::index_t count) const {
    if (count > 0) backend_.download(from, std::span<T>(to, static_cast<std::size_t>(count)));
  }
  template <class T>
  std::vector<std::remove_const_t<T>> fetch(const T* from, moue::index_t count) const {
    std::vector<std::remove_const_t<T>> result(static_cast<std::size_t>(count));
    fetch<std::remove_const_t<T>>(from, result.data(), count);
    return result;
  }
  /// A sent copy of a matrix, densely packed.
  template <class T>
  moue::matrix_view<T> send(const moue::matrix_view<const T>& m, T* to) const {
    std::vector<T> packed;
    for (moue::index_t i = 0; i < m.rows; ++i) packed.insert(packed.end(), m.row(i).begin(), m.row(i).end());
    send(packed.data(), to, m.rows * m.cols);
    return {to, m.rows, m.cols};
  }
  /// A sent copy whose rows lie as far apart, with what lies between them.
  template <class T>
  moue::matrix_view<T> send_spaced(const moue::matrix_view<const T>& m) {
    T* const to = make<T>(reach(m));
    send(m.data - before(m), to, reach(m));
    return {to + before(m), m.rows, m.cols, m.stride};
  }
  /// What `send_spaced` sent, back to where it came from.
  template <class T>
  void fetch_spaced(const moue::matrix_view<T>& from, const moue::matrix_view<T>& to) const {
    fetch(static_cast<const T*>(from.data) - before(from), to.data - before(to), reach(to));
  }
  template <class T>
  void fetch(const moue::matrix_view<T>& from, const moue::matrix_view<T>& to) const {
    const auto packed = fetch(static_cast<const T*>(from.data), from.rows * from.cols);
    for (moue::index_t i = 0; i < to.rows; ++i)
      for (moue::index_t j = 0; j < to.cols; ++j) to(i, j) = packed[static_cast<std::size_t>(i * to.cols + j)];
  }

 private:
  /// Elements from the one that lies first in memory to that of the first row, and to the end.
  template <class T>
  static moue::index_t before(const moue::matrix_view<T>& m) {
    return m.stride < 0 ? (1 - m.rows) * m.stride : 0;
  }
  template <class T>
  static moue::index_t reach(const moue::matrix_view<T>& m) {
    return (m.rows - 1) * std::abs(m.stride) + m.cols;
  }

  Backend backend_;
  std::vector<std::unique_ptr<there<Backend>>> saved_;
};

template <class MixtureT, moue::Storage S>
class carried_pass final : public any_pass<S> {
  using C = moue::compute_t<S>;
  using Backend = typename MixtureT::backend_type;

 public:
  carried_pass(const MixtureT& model, const moue::parameters<S>& weights, const moue::pass_options& options)
      : carrier_(model.backend()),
        layout_(model.layout()),
        weights_(layout_, tensors<S>()),
        gradients_(layout_, tensors<C>(), carrier_.template make<std::uint8_t>(layout_->tensors())),
        bytes_(model.template workspace_bytes<S>(options)),
        scratch_(std::span<std::byte>(carrier_.template make<std::byte>(static_cast<moue::index_t>(bytes_)), bytes_)),
        it_((send_all(weights, weights_), model.start(weights_, options, scratch_))),
        external_(options.external_inputs) {
    for (auto& buffer : rows_) buffer = carrier_.template make<S>(options.tokens * model.width());
    valid_ = carrier_.template make<std::uint8_t>(options.tokens);
    ids_ = carrier_.template make<std::int64_t>(options.tokens);
    labels_ = carrier_.template make<std::int64_t>(options.tokens);
  }

  moue::index_t tokens() const override { return it_.tokens(); }
  moue::index_t first_layer() const override { return it_.first_layer(); }
  moue::index_t layers() const override { return it_.layers(); }
  moue::index_t valid_tokens() const override { return it_.valid_tokens(); }
  void rebind(const moue::parameters<S>& weights) override {
    send_all(weights, weights_);
    it_.rebind(weights_);
  }
  const moue::pass_position& position() const override { return it_.position(); }

  void begin(moue::index_t tokens, const moue::side_inputs& inputs, const moue::batch_options& options) override {
    carrier_.send(inputs.valid.data, valid_, inputs.valid.size);
    carrier_.send(inputs.token_ids.data, ids_, inputs.token_ids.size);
    carrier_.send(inputs.labels.data, labels_, inputs.labels.size);
    moue::index_t* const sequences = carrier_.template make<moue::index_t>(inputs.sequences.size);
    carrier_.send(inputs.sequences.data, sequences, inputs.sequences.size);
    const auto& side = inputs.side;
    float* const beside = carrier_.template make<float>(side.rows * side.cols);
    for (moue::index_t t = 0; t < side.rows; ++t) carrier_.send(side.row(t).data, beside + t * side.cols, side.cols);
    it_.begin(tokens,
              {.valid = {valid_, inputs.valid.size},
               .token_ids = {ids_, inputs.token_ids.size},
               .labels = {labels_, inputs.labels.size},
               .sequences = {sequences, inputs.sequences.size},
               .side = {beside, side.rows, side.cols}},
              options);
  }
  void forward(moue::index_t layer, const moue::layer_input<S>& x, moue::matrix_view<S> y) override {
    moue::layer_input<S> sent{input(x.experts, rows_[0]), {}};
    if (x.router.data != nullptr) sent.router = input(x.router, rows_[1]);
    if (!state_in_.empty()) send_state(state_in_, it_.state_in());  // else it may be gone
    const auto out = output(y, rows_[2]);
    it_.forward(layer, sent, out);
    fetch_output(out, y);
  }
  moue::routing<C> route(moue::index_t layer, moue::matrix_view<const S> x) override {
    if (!state_in_.empty()) send_state(state_in_, it_.state_in());  // else it may be gone
    it_.route(layer, input(x, rows_[0]));
    return assignments(layer);
  }
  moue::routing<C> replay(moue::index_t layer, moue::matrix_view<const S> x,
                          moue::matrix_view<const std::int32_t> ids) override {
    if (!state_in_.empty()) send_state(state_in_, it_.state_in());  // else it may be gone
    it_.replay(layer, input(x, rows_[0]),
               carrier_.send(ids, carrier_.template make<std::int32_t>(ids.rows * ids.cols)));
    return assignments(layer);
  }
  void run(moue::index_t layer, moue::matrix_view<const S> x, const moue::routing<C>& r,
           moue::matrix_view<S> y) override {
    const auto out = output(y, rows_[2]);
    it_.run(layer, input(x, rows_[0]), sent(r), out);
    fetch_output(out, y);
  }
  void ran(moue::index_t layer, const moue::routing<C>& r) override { it_.ran(layer, sent(r)); }

  moue::any_loss_value<C> balance() const override { return any_of(it_.balance()); }
  moue::any_loss_value<C> balance(const moue::routing_counts<C>& of_all) const override {
    return any_of(it_.balance(of_all));
  }
  moue::vector_view<const C> queue_balance() const override { return it_.queue_balance(); }
  void arm(C scale) override { it_.arm(scale); }
  void arm(std::span<const C> scales) override { it_.arm(scales); }
  void arm(C scale, const moue::routing_counts<C>& of_all) override { it_.arm(scale, of_all); }
  void arm(std::span<const C> scales, const moue::routing_counts<C>& of_all) override { it_.arm(scales, of_all); }
  moue::routing_counts<C> counts() const override { return it_.counts(); }

  void backward(moue::index_t layer, moue::matrix_view<const S> dy, const moue::layer_gradient<S>& dx,
                moue::gradients<C>& into, const moue::routing_gradient<const C>& also) override {
    send_gradients(into);
    const auto sent = given(dy, rows_[0]);
    moue::layer_gradient<S> out{output(dx.experts, rows_[1]), {}};
    if (dx.router.data != nullptr) out.router = output(dx.router, rows_[2]);
    it_.backward(layer, sent, out, gradients_, carried(also));
    fetch_output(out.experts, dx.experts);
    if (dx.router.data != nullptr) fetch_output(out.router, dx.router);
    fetch_gradients(into);
  }
  void run_backward(moue::index_t layer, moue::matrix_view<const S> dy, moue::matrix_view<S> dx,
                    moue::vector_view<C> dgates, moue::gradients<C>& into,
                    const moue::routing_gradient<const C>& also) override {
    send_gradients(into);
    const auto out = output(dx, rows_[1]);
    const moue::vector_view<C> there{carrier_.template make<C>(dgates.size), dgates.size};
    it_.run_backward(layer, given(dy, rows_[0]), out, there, gradients_, carried(also));
    fetch_output(out, dx);
    carrier_.template fetch<C>(there.data, dgates.data, dgates.size);
    fetch_gradients(into);
  }
  void route_backward(moue::index_t layer, moue::vector_view<const C> dgates, moue::matrix_view<S> dx,
                      moue::gradients<C>& into, const moue::routing_gradient<const C>& also) override {
    send_gradients(into);
    const auto out = output(dx, rows_[1]);
    C* const there = carrier_.template make<C>(dgates.size);
    carrier_.send(dgates.data, there, dgates.size);
    it_.route_backward(layer, {there, dgates.size}, out, gradients_, carried(also));
    fetch_output(out, dx);
    fetch_gradients(into);
  }
  void rewind() override { it_.rewind(); }
  void rebind_input(moue::index_t layer, const moue::layer_input<S>& x) override { it_.rebind_input(layer, x); }

  moue::matrix_view<C> state_in() override { return shadow(state_in_, it_.state_in()); }
  moue::matrix_view<const C> state_out() const override { return fetched(it_.state_out(), state_out_); }
  moue::matrix_view<C> dstate_out() override { return shadow(dstate_out_, it_.dstate_out()); }
  moue::matrix_view<const C> dstate_in() const override { return fetched(it_.dstate_in(), dstate_in_); }

  moue::routing<C> assignments(moue::index_t layer) const override {
    const auto given = it_.assignments(layer);
    auto& saved = fetched_[layer];
    saved.offsets = carrier_.fetch(given.offsets.data, given.offsets.size);
    saved.experts = carrier_.fetch(given.expert.data, given.expert.size);
    saved.gates = carrier_.fetch(given.gate.data, given.gate.size);
    saved.columns = carrier_.fetch(given.column.data, given.column.size);
    return {view(saved.offsets), view(saved.experts), view(saved.gates), view(saved.columns)};
  }
  const moue::dispatch_plan& plan(moue::index_t layer) const override { return it_.plan(layer); }
  moue::matrix_view<const C> outputs(moue::index_t layer) const override {
    if constexpr (moue::detail::sees_outputs<typename MixtureT::loss_type>)
      return fetched(it_.outputs(layer), fetched_[layer].outputs);
    else
      throw moue::error("pass", "no outputs are shown", "add moue::show_outputs to the losses");
  }
  moue::matrix_view<const C> logits(moue::index_t layer) const override {
    return fetched(it_.logits(layer), fetched_[layer].logits);
  }
  void features(moue::index_t layer, moue::matrix_view<C> into) override {
    asked(into, [&](const moue::matrix_view<C>& there) { it_.features(layer, there); });
  }
  void scores(moue::index_t layer, moue::matrix_view<C> into) override {
    asked(into, [&](const moue::matrix_view<C>& there) { it_.scores(layer, there); });
  }
  void probabilities(moue::index_t layer, moue::matrix_view<C> into) override {
    asked(into, [&](const moue::matrix_view<C>& there) { it_.probabilities(layer, there); });
  }
  moue::matrix_view<const std::int32_t> selected(moue::index_t layer) const override {
    return fetched(it_.selected(layer), fetched_[layer].selected);
  }
  moue::matrix_view<const C> state(moue::index_t layer) const override {
    return fetched(it_.state(layer), fetched_[layer].state);
  }
  moue::depth_statistics<C> statistics() const override { return fetched(it_.statistics()); }
  moue::depth_statistics<C> statistics(const moue::routing_counts<C>& of_all) const override {
    return fetched(it_.statistics(of_all));
  }

 private:
  struct layer_copies {
    std::vector<moue::index_t> offsets;
    std::vector<std::int32_t> experts, selected, columns;
    std::vector<C> gates, logits, outputs, state;
  };

  template <class T>
  static bool is_spaced(const moue::matrix_view<T>& m) {
    return m.rows > 0 && m.stride != m.cols;
  }
  moue::matrix_view<S> given(const moue::matrix_view<const S>& m, S* to) {
    return is_spaced(m) ? carrier_.send_spaced(m) : carrier_.send(m, to);
  }
  moue::matrix_view<const C> carried(const moue::matrix_view<const C>& m) {
    if (m.data == nullptr) return {};
    C* const there = carrier_.template make<C>(m.rows * m.cols);
    for (moue::index_t i = 0; i < m.rows; ++i) carrier_.send(m.row(i).data, there + i * m.cols, m.cols);
    return {there, m.rows, m.cols};
  }
  /// What `ask` writes to memory of the backend's.
  void asked(const moue::matrix_view<C>& into, const auto& ask) {
    const moue::matrix_view<C> there{carrier_.template make<C>(into.rows * into.cols), into.rows, into.cols};
    ask(there);
    for (moue::index_t t = 0; t < into.rows; ++t)
      carrier_.template fetch<C>(there.row(t).data, into.row(t).data, into.cols);
  }
  moue::routing_gradient<const C> carried(const moue::routing_gradient<const C>& also) {
    const auto gates = carried(moue::matrix_view<const C>{also.gates.data, 1, also.gates.size});
    return {carried(also.logits),
            carried(also.probabilities),
            {gates.data, also.gates.size},
            carried(also.outputs),
            carried(also.extra)};
  }
  /// What the pass may read again in backward, where the next layer's must not lie then.
  moue::matrix_view<S> input(const moue::matrix_view<const S>& x, S* to) {
    return given(x, external_ && !is_spaced(x) ? carrier_.template make<S>(x.rows * x.cols) : to);
  }
  moue::matrix_view<S> output(const moue::matrix_view<S>& y, S* to) {
    if (is_spaced(y)) return carrier_.send_spaced(moue::matrix_view<const S>(y));
    return {to, y.rows, y.cols};
  }
  void fetch_output(const moue::matrix_view<S>& from, const moue::matrix_view<S>& to) const {
    if (is_spaced(to))
      carrier_.fetch_spaced(from, to);
    else
      carrier_.fetch(from, to);
  }
  moue::depth_statistics<C> fetched(moue::depth_statistics<C> s) const {
    const auto fetch = [&](auto& views, auto& saved) {
      saved = carrier_.fetch(views.data, views.size);
      views = view(saved);
    };
    fetch(s.offsets, offsets_);
    fetch(s.candidates, candidates_);
    fetch(s.exposure, tables_[0]);
    fetch(s.share, tables_[1]);
    fetch(s.probability, tables_[2]);
    fetch(s.expert_share, tables_[3]);
    fetch(s.expert_probability, tables_[4]);
    fetch(s.open, open_);
    return s;
  }
  template <class T>
  static moue::vector_view<const T> view(const std::vector<T>& v) {
    return {v.data(), std::ssize(v)};
  }
  template <class T>
  moue::matrix_view<const T> fetched(const moue::matrix_view<const T>& m, std::vector<T>& saved) const {
    saved = carrier_.fetch(m.data, m.rows * m.cols);  // what a pass shows is densely packed
    return {saved.data(), m.rows, m.cols};
  }
  /// A copy on the host that its owner may write; sent back before it is read.
  moue::matrix_view<C> shadow(std::vector<C>& host, const moue::matrix_view<C>& m) const {
    host = carrier_.fetch(static_cast<const C*>(m.data), m.rows * m.cols);
    return {host.data(), m.rows, m.cols};
  }
  void send_state(std::vector<C>& host, const moue::matrix_view<C>& m) const {
    if (!host.empty()) carrier_.send(static_cast<const C*>(host.data()), m.data, m.rows * m.cols);
    host.clear();
  }
  moue::routing<C> sent(const moue::routing<C>& r) {
    const auto send = [&]<class T>(const moue::vector_view<const T>& v) {
      T* const there = carrier_.template make<T>(v.size);
      carrier_.send(v.data, there, v.size);
      return moue::vector_view<const T>{v.size > 0 ? there : nullptr, v.size};
    };
    return {send(r.offsets), send(r.expert), send(r.gate), send(r.column)};
  }
  static moue::any_loss_value<C> any_of(const auto& value) {
    return {value.total, {value.parts.begin(), value.parts.end()}};
  }
  void send_gradients(moue::gradients<C>& into) {
    send_state(dstate_out_, it_.dstate_out());
    send_all(into, gradients_);
    carrier_.send(static_cast<const std::uint8_t*>(into.marks().data), gradients_.marks().data, layout_->tensors());
  }
  void fetch_gradients(moue::gradients<C>& into) {
    for (moue::index_t i = 0; i < layout_->tensors(); ++i)
      if (into.wanted(i)) carrier_.template fetch<C>(gradients_[i].data, into[i].data, (*layout_)[i].size());
    carrier_.template fetch<std::uint8_t>(gradients_.marks().data, into.marks().data, layout_->tensors());
  }
  template <class T>
  std::vector<T*> tensors() {
    std::vector<T*> result;
    for (const auto& info : *layout_) result.push_back(carrier_.template make<T>(info.size()));
    return result;
  }
  void send_all(const auto& from, auto& to) const {
    for (moue::index_t i = 0; i < layout_->tensors(); ++i) {
      const auto source = from[i];
      if (source.empty()) continue;
      carrier_.template send<std::remove_const_t<std::remove_pointer_t<decltype(source.data)>>>(source.data, to[i].data,
                                                                                                (*layout_)[i].size());
    }
  }

  carrier<Backend> carrier_;
  std::shared_ptr<const moue::parameter_layout> layout_;
  moue::parameters<S> weights_;
  moue::gradients<C> gradients_;
  std::size_t bytes_;
  moue::workspace scratch_;
  moue::pass<MixtureT, S> it_;
  bool external_;
  S* rows_[3] = {};
  std::uint8_t* valid_ = nullptr;
  std::int64_t* ids_ = nullptr;
  std::int64_t* labels_ = nullptr;
  mutable std::map<moue::index_t, layer_copies> fetched_;
  mutable std::vector<moue::index_t> offsets_;
  mutable std::vector<std::int32_t> candidates_;
  mutable std::vector<std::uint8_t> open_;
  mutable std::vector<C> tables_[5];
  std::vector<C> state_in_, dstate_out_;
  mutable std::vector<C> state_out_, dstate_in_;
};

template <class MixtureT, moue::Storage S>
class carried_model final : public moue::detail::erased_model<MixtureT, S> {
 public:
  using moue::detail::erased_model<MixtureT, S>::erased_model;

 private:
  std::unique_ptr<any_pass<S>> make_pass(const moue::parameters<S>& weights, const moue::pass_options& options,
                                         moue::workspace&) const override {
    return std::make_unique<carried_pass<MixtureT, S>>(this->it_, weights, options);
  }
};

}  // namespace test
