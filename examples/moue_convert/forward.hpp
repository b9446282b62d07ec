// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The conversion: every tensor as it is, and the new connections.

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "moue/io/converted.hpp"
#include "options.hpp"
#include "planning.hpp"
#include "stream.hpp"

namespace converting {

namespace detail {

inline void print_plan(const options& o, const io::moe_checkpoint& source, const convert::plan& plan) {
  const auto& d = source.description();
  moue::index_t least = plan.layers() > 0 ? static_cast<moue::index_t>(plan.foreign(0).size()) : 0, most = least;
  for (moue::index_t layer = 0; layer < plan.layers(); ++layer) {
    least = std::min(least, static_cast<moue::index_t>(plan.foreign(layer).size()));
    most = std::max(most, static_cast<moue::index_t>(plan.foreign(layer).size()));
  }
  const moue::index_t experts = d.layers() * d.experts;
  std::printf("source       %s, %td mixture layers of %td experts\n", d.family.name.c_str(), d.layers(), d.experts);
  std::printf("universal    %td of %td experts\n", std::ssize(plan.universal), experts);
  std::printf("candidates   %td a layer of its own, and %td", plan.home, least);
  if (most != least) std::printf(" to %td", most);
  std::printf(" of other layers\n");
  std::printf("width        %td experts reached, before %td; %td physical\n", experts + plan.connections(), experts,
              experts);
  std::printf("new          %td connections, %td numbers in router rows\n", plan.connections(),
              plan.connections() * d.width);
  if (std::isinf(o.opening))
    std::printf("connections  closed: the same outputs as before, to the bit\n");
  else
    std::printf("connections  open with bias %g: outputs change\n", o.opening);
}

inline void require_fresh(const options& o) {
  for (const char* name : {io::detail::single_name, io::detail::index_name})
    if (std::filesystem::exists(o.out / name))
      throw std::runtime_error("'" + o.out.string() + "': holds a checkpoint already; choose another folder");
}

inline void make_folder(const std::filesystem::path& folder) {
  std::error_code problem;
  if (!std::filesystem::is_directory(folder) && !std::filesystem::create_directories(folder, problem))
    throw std::runtime_error("'" + folder.string() + "': cannot be made a folder: " + problem.message());
}

inline void finish(io::sharded_writer& out, const options& o, const std::string& config) {
  out.commit();
  if (!config.empty()) write_text(o.out / "config.json", config);
  std::printf("written      %zu file%s in %s\n", out.files().size(), out.files().size() == 1 ? "" : "s", o.out.c_str());
}

}  // namespace detail

inline void convert_forward(const options& o, const io::moe_checkpoint& source) {
  const auto& files = source.files();
  if (io::is_converted(files))
    throw std::runtime_error("'" + o.in.string() + "': was converted before; convert its source again");
  detail::require_fresh(o);
  const auto& d = source.description().running();
  const auto plan = make_plan(o, source);
  detail::print_plan(o, source, plan);

  std::vector<io::tensor_spec> specs;
  std::uint64_t bytes = 0;
  for (const auto& name : files.names()) {
    if (files.aliases().contains(name)) continue;
    const auto& tensor = files.entry(name);
    if (tensor.type == io::dtype::unknown)
      throw std::runtime_error("'" + o.in.string() + "': tensor '" + name + "' has type '" + tensor.type_name +
                               "', which cannot be written");
    specs.push_back({name, tensor.type, tensor.shape});
    bytes += tensor.end - tensor.begin;
  }
  for (moue::index_t layer = 0; layer < plan.layers(); ++layer) {
    const auto foreign = static_cast<std::uint64_t>(plan.foreign(layer).size());
    // In the router's own type, so that private copies of the connections can hold exactly what was run.
    specs.push_back({io::foreign_name(layer),
                     files.entry(d.tensor_name(layer, io::moe_part::router)).type,
                     {foreign, static_cast<std::uint64_t>(d.width)}});
    specs.push_back({io::opening_name(layer), io::dtype::f32, {1, foreign}});
  }
  std::printf("copied       %zu tensors, %s, byte for byte\n", files.names().size() - files.aliases().size(),
              size_text(bytes).c_str());
  if (o.dry_run) return;

  detail::make_folder(o.out);
  auto metadata = files.metadata();
  metadata[io::conversion_key] = io::text_of(plan);
  io::sharded_writer out(o.out, std::move(specs), o.shard_bytes, metadata, files.aliases());
  {
    progress shown(bytes);
    for (const auto& name : files.names())
      if (!files.aliases().contains(name)) copy_bytes(files.bytes(name), out, name, 0, shown);
  }
  for (moue::index_t layer = 0; layer < plan.layers(); ++layer) {
    const auto rows = make_rows(o, source, plan, layer);
    const std::vector<float> opening(plan.foreign(layer).size(), static_cast<float>(o.opening));
    write_numbers(rows, files.entry(d.tensor_name(layer, io::moe_part::router)).type, out, io::foreign_name(layer), 0);
    out.write(io::opening_name(layer), 0, std::as_bytes(std::span(opening)));
  }
  detail::finish(out, o,
                 files.config() ? io::detail::with_bare_literals(files.config()->dump(2)) + "\n" : std::string());
}

}  // namespace converting
