// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How alike the experts of a checkpoint are, by what they make of the same random inputs.

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/analysis/similarity.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/expert/mlp.hpp"
#include "moue/expert/projected.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"

namespace inspect {

namespace io = moue::io;

namespace detail {

/// Outputs of the chosen experts, one after the other: [experts, tokens · width]. One expert is in memory at a time.
template <class ExpertT>
std::vector<float> outputs_of(const io::moe_checkpoint& source, const ExpertT& expert,
                              const std::vector<std::pair<moue::index_t, moue::index_t>>& chosen,
                              moue::index_t tokens) {
  const moue::executor one{expert, 1, moue::cpu{}};
  moue::parameters<float> weights(one.layout());
  std::vector<float> probes(static_cast<std::size_t>(tokens * expert.width)), result;
  for (std::size_t i = 0; i < probes.size(); ++i)
    probes[i] = static_cast<float>(moue::detail::normal_at(2026, static_cast<std::uint64_t>(i)));
  constexpr std::pair<const char*, io::moe_part> parts[] = {{"gate", io::moe_part::gate},
                                                            {"up", io::moe_part::up},
                                                            {"down", io::moe_part::down},
                                                            {"gate_bias", io::moe_part::gate_bias},
                                                            {"up_bias", io::moe_part::up_bias},
                                                            {"down_bias", io::moe_part::down_bias},
                                                            {"project_in", io::moe_part::latent_in},
                                                            {"project_out", io::moe_part::latent_out}};
  for (const auto& [layer, e] : chosen) {
    for (const auto& [name, part] : parts) {
      if (!source.description().has(part)) continue;
      const auto to = weights[std::string("experts.0.") + name];
      source.read(layer, part, e, std::span<float>(to.data, static_cast<std::size_t>(to.rows * to.cols)));
    }
    const auto out =
        moue::probe_outputs(one, weights, moue::matrix_view<const float>{probes.data(), tokens, expert.width});
    result.insert(result.end(), out.begin(), out.end());
  }
  return result;
}

}  // namespace detail

struct measured_similarity {
  moue::similarity_matrix values;
  moue::index_t tokens = 0;  ///< that it was measured by: at most as many as asked for, fewer if memory would not do
};

/// The similarity of the outputs of experts (mixture layer, expert) for up to `probes` standard normal inputs.
inline measured_similarity similarity_of(const io::moe_checkpoint& source,
                                         const std::vector<std::pair<moue::index_t, moue::index_t>>& chosen,
                                         moue::index_t probes) {
  constexpr double most_bytes = 1e9;
  const auto& d = source.description();
  const double bytes_a_probe = 4.0 * static_cast<double>(d.width) * static_cast<double>(chosen.size());
  const auto tokens =
      std::max<moue::index_t>(2, std::min(probes, static_cast<moue::index_t>(most_bytes / bytes_a_probe)));
  const auto outputs_of = [&](const auto& expert) { return detail::outputs_of(source, expert, chosen, tokens); };
  if (d.has(io::moe_part::input_gate))
    throw moue::error(d.family.name, "what its experts answer depends on the gate of their input",
                      "leave out '--svg'; outputs for one gate would be a picture of no model");
  const auto outputs = [&] {
    switch (d.family.activation) {
      case io::expert_activation::silu:
        return outputs_of(moue::swiglu{d.width, d.hidden});
      case io::expert_activation::clamped_swiglu:
        return outputs_of(moue::gated_mlp<moue::clamped_swiglu, true>{d.width, d.hidden});
      case io::expert_activation::relu_squared:
        if (d.latent > 0)
          return outputs_of(moue::projected{moue::mlp<moue::relu_squared>{d.latent, d.hidden}, d.width});
        return outputs_of(moue::mlp<moue::relu_squared>{d.width, d.hidden});
      case io::expert_activation::gelu_tanh:
        return outputs_of(moue::gated_mlp<moue::gelu_tanh>{d.width, d.hidden});
      case io::expert_activation::clamped_silu:
        return outputs_of(moue::gated_mlp<moue::clamped_silu>{d.width, d.hidden});
    }
    throw moue::error(d.family.name, "computes what no picture is known of", "leave out '--svg'");
  }();
  return {
      moue::output_similarity(
          moue::cpu{}, moue::matrix_view<const float>{outputs.data(), std::ssize(chosen), tokens * d.width}, tokens),
      tokens};
}

}  // namespace inspect
