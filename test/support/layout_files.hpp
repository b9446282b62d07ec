// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Synthetic checkpoints in the layouts of public families, arranged index by index from what is known of these,
/// without a look at the library's table.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/io/layouts.hpp"
#include "moue/io/safetensors/writer.hpp"

namespace test {

using moue::index_t;
using moue::io::moe_part;

/// A folder that goes away with its object.
class scratch_folder {
 public:
  scratch_folder() {
    std::random_device entropy;
    path_ = std::filesystem::temp_directory_path() / ("moue_" + std::to_string(entropy()) + std::to_string(entropy()));
    std::filesystem::create_directories(path_);
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// The sizes of a synthetic checkpoint, and its canonical numbers: all different, and whole.
struct layout_sizes {
  index_t width, hidden, shared_hidden = 3, experts = 3;
  std::vector<index_t> model_layers{0, 1};

  float value(moe_part part, index_t layer, index_t e, index_t r, index_t c) const {
    const index_t side = width + hidden + shared_hidden + experts;
    return static_cast<float>((((static_cast<index_t>(part) * 2 + layer) * experts + e) * side + r) * side + c);
  }
};

struct raw_tensor {
  std::vector<index_t> shape;
  moue::io::dtype type = moue::io::dtype::f32;
  std::vector<std::byte> bytes;
};
using raw_tensors = std::map<std::string, raw_tensor>;

using position = std::vector<index_t>;

/// Adds a tensor with `element(position)` everywhere.
template <class T>
void put(raw_tensors& all, const std::string& name, moue::io::dtype type, std::vector<index_t> shape,
         const std::function<T(const position&)>& element) {
  index_t count = 1;
  for (const index_t n : shape) count *= n;
  std::vector<T> values;
  for (index_t i = 0; i < count; ++i) {
    position at(shape.size());
    index_t rest = i;
    for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) at[d] = rest % shape[d];
    values.push_back(element(at));
  }
  const auto bytes = std::as_bytes(std::span(values));
  all[name] = {std::move(shape), type, {bytes.begin(), bytes.end()}};
}
inline void put(raw_tensors& all, const std::string& name, std::vector<index_t> shape,
                const std::function<float(const position&)>& element) {
  put<float>(all, name, moue::io::dtype::f32, std::move(shape), element);
}

inline void save(const std::filesystem::path& folder, const raw_tensors& all, const nlohmann::json& config) {
  std::vector<moue::io::tensor_spec> specs;
  for (const auto& [name, tensor] : all)
    specs.push_back({name, tensor.type, {tensor.shape.begin(), tensor.shape.end()}});
  std::filesystem::create_directories(folder);
  moue::io::safetensors_writer file(folder / "model.safetensors", specs, {});
  for (const auto& [name, tensor] : all) file.write(name, 0, tensor.bytes);
  file.commit();
  if (!config.is_null()) std::ofstream(folder / "config.json") << config;
}

/// Named like `style`: "mixtral", "per expert", "fused", "granite" or "gpt_oss".
inline raw_tensors make_layout(const std::string& style, const layout_sizes& s,
                               const std::string& router_name = "mlp.gate.weight") {
  raw_tensors all;
  using enum moe_part;
  for (std::size_t layer = 0; layer < s.model_layers.size(); ++layer) {
    const auto l = static_cast<index_t>(layer);
    const std::string stem = "model.layers." + std::to_string(s.model_layers[layer]) + ".";
    const auto v = [&, l](moe_part part, index_t e, index_t r, index_t c) { return s.value(part, l, e, r, c); };
    const index_t n = s.experts, w = s.width, h = s.hidden;
    put(all, stem + router_name, {n, w}, [&](const position& at) { return v(moe_part::router, 0, at[0], at[1]); });
    if (style == "fused" || style == "granite") {
      const bool granite = style == "granite";
      const std::string block = stem + (granite ? "block_sparse_moe." : "mlp.experts.");
      put(all, block + (granite ? "input_linear.weight" : "gate_up_proj"), {n, 2 * h, w}, [&](const position& at) {
        return at[1] < h ? v(gate, at[0], at[1], at[2]) : v(up, at[0], at[1] - h, at[2]);
      });
      put(all, block + (granite ? "output_linear.weight" : "down_proj"), {n, w, h},
          [&](const position& at) { return v(down, at[0], at[1], at[2]); });
    } else if (style == "gpt_oss") {
      const std::string block = stem + "mlp.experts.";
      put(all, block + "gate_up_proj", {n, w, 2 * h},
          [&](const position& at) { return v(at[2] % 2 == 0 ? gate : up, at[0], at[2] / 2, at[1]); });
      put(all, block + "gate_up_proj_bias", {n, 2 * h},
          [&](const position& at) { return v(at[1] % 2 == 0 ? gate_bias : up_bias, at[0], 0, at[1] / 2); });
      put(all, block + "down_proj", {n, h, w}, [&](const position& at) { return v(down, at[0], at[2], at[1]); });
      put(all, block + "down_proj_bias", {n, w}, [&](const position& at) { return v(down_bias, at[0], 0, at[1]); });
      put(all, stem + "mlp.router.bias", {n}, [&](const position& at) { return v(router_bias, 0, 0, at[0]); });
    } else {
      const bool mixtral = style == "mixtral";
      const auto name = [&](index_t e, const char* one, const char* other) {
        return stem + (mixtral ? "block_sparse_moe.experts." : "mlp.experts.") + std::to_string(e) + "." +
               (mixtral ? one : other) + ".weight";
      };
      for (index_t e = 0; e < n; ++e) {
        put(all, name(e, "w1", "gate_proj"), {h, w}, [&](const position& at) { return v(gate, e, at[0], at[1]); });
        put(all, name(e, "w3", "up_proj"), {h, w}, [&](const position& at) { return v(up, e, at[0], at[1]); });
        put(all, name(e, "w2", "down_proj"), {w, h}, [&](const position& at) { return v(down, e, at[0], at[1]); });
      }
    }
  }
  return all;
}

/// Adds the shared expert, called `stem`, of families whose own matrices stand apart.
inline void add_shared(raw_tensors& all, const layout_sizes& s, const std::string& stem) {
  for (std::size_t layer = 0; layer < s.model_layers.size(); ++layer) {
    const std::string block = "model.layers." + std::to_string(s.model_layers[layer]) + "." + stem;
    const auto v = [&, l = static_cast<index_t>(layer)](moe_part part, const position& at) {
      return s.value(part, l, 0, at[0], at[1]);
    };
    const index_t w = s.width, h = s.shared_hidden;
    put(all, block + "gate_proj.weight", {h, w}, [&](const position& at) { return v(moe_part::shared_gate, at); });
    put(all, block + "up_proj.weight", {h, w}, [&](const position& at) { return v(moe_part::shared_up, at); });
    put(all, block + "down_proj.weight", {w, h}, [&](const position& at) { return v(moe_part::shared_down, at); });
  }
}

/// Adds one tensor of shape `shape` per mixture layer that holds `part` as it is.
inline void add_plain(raw_tensors& all, const layout_sizes& s, const std::string& name, moe_part part,
                      const std::vector<index_t>& shape) {
  for (std::size_t layer = 0; layer < s.model_layers.size(); ++layer)
    put(all, "model.layers." + std::to_string(s.model_layers[layer]) + "." + name, shape,
        [&](const position& at) { return s.value(part, static_cast<index_t>(layer), 0, 0, at.back()); });
}

}  // namespace test
