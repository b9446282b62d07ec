// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Expert parallelism over MPI: every rank has tokens of its own, some of them padding, all routers, and its share of the
// experts; the balancing loss is that of the tokens of all ranks. Outputs, input gradients and the experts' gradients have
// the bits of one rank that does it all.

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <moue/moue.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "remote_experts.hpp"

namespace {

using moue::index_t;
constexpr index_t tokens = 48, width = 16;  // of a rank

const moue::swiglu expert{.width = width, .hidden = 24};
// Two layers that run twice with the same routers, and experts that every token uses.
const moue::always_on topology{
    moue::revisit{moue::staggered_rotation{.depth = 2, .pool = 7, .window = 5, .stride = 2}, 2, true}, 1, 1};
const moue::sum_of_losses loss{moue::switch_loss{0.01}, moue::z_loss{0.001}, moue::universal_balance{.weight = 0.01}};
const moue::mixture model{expert, topology, moue::universal_router(2), loss, moue::cpu{1}};
// The same without experts: what a rank needs to route.
const moue::mixture routers{moue::zero_expert{.width = width}, topology, moue::universal_router(2), loss, moue::cpu{1}};
const index_t depth = model.layers();

using floats = std::vector<float>;
moue::matrix_view<float> view(floats& v) { return {v.data(), std::ssize(v) / width, width}; }

/// Weights as after some training: routers read the depth state, of which they would see nothing at first.
moue::parameters<float> trained(const auto& of) {
  auto weights = of.template initialize<float>(7);
  for (index_t i = 0; i < weights.layout().tensors(); ++i)
    if (weights.layout()[i].name.ends_with("trajectory_map"))
      for (index_t j = 0; j < weights.layout()[i].size(); ++j) weights[i].data[j] = std::cos(static_cast<float>(i + j));
  return weights;
}
/// Every seventh token is padding.
std::vector<std::uint8_t> mask(std::size_t first, std::size_t count) {
  std::vector<std::uint8_t> valid(count);
  for (std::size_t t = 0; t < count; ++t) valid[t] = (first + t) % 7 != 3;
  return valid;
}

/// Forward and backward on the tokens of all ranks; the gradient of y is y. Returns y and then dx.
std::pair<floats, floats> on_one_rank(const moue::parameters<float>& weights, floats x, moue::gradients<float>& into,
                                      float& balance) {
  const moue::pass_options options{.tokens = std::ssize(x) / width};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  const auto valid = mask(0, static_cast<std::size_t>(options.tokens));
  pass.begin(options.tokens, {.valid = {valid.data(), options.tokens}, .token_ids = {}, .labels = {}});
  for (index_t layer = 0; layer < depth; ++layer) pass.forward(layer, view(x), view(x));
  const floats y = x;
  balance = pass.balance();
  pass.arm();
  for (index_t layer = depth; layer-- > 0;) pass.backward(layer, view(x), view(x), into);
  return {y, x};
}

/// What routing did on all ranks.
void add_over_ranks(moue::routing_counts<float>& counts) {
  counts.each_array([]<class T>(std::vector<T>& array, moue::reduction how) {
    const MPI_Datatype type = std::is_same_v<T, float> ? MPI_FLOAT : sizeof(T) == 1 ? MPI_UINT8_T : MPI_INT64_T;
    MPI_Allreduce(MPI_IN_PLACE, array.data(), static_cast<int>(array.size()), type,
                  how == moue::reduction::sum ? MPI_SUM : MPI_MAX, MPI_COMM_WORLD);
  });
}

/// The same on the tokens of this rank. `into` is of the routers, `own` of the experts that this rank owns.
std::pair<floats, floats> on_this_rank(const moue::parameters<float>& weights, const auto& remote, floats x,
                                       const std::vector<std::uint8_t>& valid, moue::gradients<float>& into,
                                       moue::gradients<float>& own, float& balance) {
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(routers.workspace_bytes<float>(options));
  auto pass = routers.start(weights, options, scratch);
  std::vector<typename std::remove_cvref_t<decltype(remote)>::visit> visits(static_cast<std::size_t>(depth));
  pass.begin(tokens, {.valid = {valid.data(), tokens}, .token_ids = {}, .labels = {}});
  for (index_t layer = 0; layer < depth; ++layer) {
    const auto assignments = pass.route(layer, view(x));
    remote.forward(assignments, view(x), view(x), visits[static_cast<std::size_t>(layer)]);
    pass.ran(layer, assignments);
  }
  const floats y = x;

  auto counts = pass.counts();  // a balancing loss looks at the tokens of all ranks
  add_over_ranks(counts);
  balance = pass.balance(counts);
  pass.arm(1, counts);

  floats dgates, of_router(x.size());
  for (index_t layer = depth; layer-- > 0;) {
    remote.backward(pass.assignments(layer), view(x), view(x), dgates, own, visits[static_cast<std::size_t>(layer)]);
    pass.route_backward(layer, {dgates.data(), std::ssize(dgates)}, view(of_router), into);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += of_router[i];
  }
  return {y, x};
}

bool same_bits(const float* a, const float* b, std::size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const std::size_t mine = tokens * width;
  floats x(mine * static_cast<std::size_t>(ranks));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  const floats here(x.begin() + static_cast<std::ptrdiff_t>(mine) * rank,
                    x.begin() + static_cast<std::ptrdiff_t>(mine) * (rank + 1));

  const auto all = trained(model);
  moue::gradients<float> of_all(model.layout());
  float balance_of_all = 0, balance = 0;
  const auto [y_of_all, dx_of_all] = on_one_rank(all, x, of_all, balance_of_all);

  // The experts of this rank, and the routers: both have the weights that the whole has.
  const index_t own = model.experts() / ranks;
  const moue::executor run{expert, own, moue::cpu{1}};
  moue::parameters<float> weights(run.layout());
  const index_t first = model.layout()->expert_first(rank * own);
  for (index_t i = 0; i < weights.layout().tensors(); ++i)
    std::copy_n(all[first + i].data, weights.layout()[i].size(), weights[i].data);
  const auto of_routers = trained(routers);
  moue::gradients<float> into(routers.layout()), own_gradients(weights.shared_layout());
  const remote_experts<std::remove_const_t<decltype(run)>> remote{MPI_COMM_WORLD, run, weights};
  const auto [y, dx] = on_this_rank(of_routers, remote, here, mask(static_cast<std::size_t>(rank) * tokens, tokens),
                                    into, own_gradients, balance);

  int same[] = {same_bits(y.data(), y_of_all.data() + mine * static_cast<std::size_t>(rank), mine),
                same_bits(dx.data(), dx_of_all.data() + mine * static_cast<std::size_t>(rank), mine), 1,
                std::abs(balance - balance_of_all) <= 1e-5f * balance_of_all};
  for (index_t i = 0; i < weights.layout().tensors(); ++i)
    same[2] = same[2] && own_gradients.live(i) == of_all.live(first + i) &&
              (!own_gradients.live(i) || same_bits(own_gradients[i].data, of_all[first + i].data,
                                                   static_cast<std::size_t>(weights.layout()[i].size())));
  MPI_Allreduce(MPI_IN_PLACE, same, 4, MPI_INT, MPI_LAND, MPI_COMM_WORLD);

  bool close = true;  // routers' gradients are sums of every rank's sum, and rounded accordingly
  for (index_t i = 0; i < into.layout().tensors(); ++i) {
    const moue::matrix_view<float> sum = into[i];
    const auto expected = std::as_const(of_all)[into.layout()[i].name];
    MPI_Allreduce(MPI_IN_PLACE, sum.data, static_cast<int>(into.layout()[i].size()), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
    float largest = 0, error = 0;
    for (index_t j = 0; j < into.layout()[i].size(); ++j) {
      largest = std::max(largest, std::abs(expected.data[j]));
      error = std::max(error, std::abs(sum.data[j] - expected.data[j]));
    }
    close = close && error <= 1e-5f * largest;
  }
  if (rank == 0) {
    const char* const names[] = {"outputs", "input gradients", "experts' gradients"};
    for (int i = 0; i < 3; ++i) std::printf("%s: %s\n", names[i], same[i] ? "same bits as on one rank" : "differ");
    std::printf("balancing loss: %s\n", same[3] ? "equal to rounding" : "differs");
    std::printf("routers' gradients: %s\n", close ? "equal to rounding" : "differ");
  }
  MPI_Finalize();
  return same[0] && same[1] && same[2] && same[3] && close ? 0 : 1;
}
