// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Converted checkpoints of every family, from file to gradient, and back to plain ones.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "../../examples/moue_convert/backward.hpp"
#include "../../examples/moue_convert/forward.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/convert/moe_to_moue.hpp"
#include "moue/io/converted.hpp"
#include "moue/io/parameters.hpp"
#include "moue/pass.hpp"
#include "temporary_folder.hpp"

namespace {

namespace io = moue::io;

const std::string families = std::string(MOUE_TEST_DATA) + "/parity/";
constexpr moue::index_t tokens = 17;

struct result {
  explicit result(std::shared_ptr<const moue::parameter_layout> layout) : gradients(std::move(layout)) {}
  std::vector<double> out, dx;
  moue::gradients<double> gradients;
};

/// All layers in a row, x <- the mixture of x, and the gradient of the sum of what comes out.
template <class Mixture>
result run(const Mixture& model, const moue::parameters<double>& weights) {
  result r(model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.template workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  r.out.resize(static_cast<std::size_t>(tokens * model.width()));
  for (std::size_t i = 0; i < r.out.size(); ++i) r.out[i] = std::sin(static_cast<double>(3 * i + 1));
  r.dx.assign(r.out.size(), 1);
  const moue::matrix_view<double> x{r.out.data(), tokens, model.width()}, dx{r.dx.data(), tokens, model.width()};
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, x, x);
  pass.arm();
  for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, dx, dx, r.gradients);
  return r;
}

result run_plain(const std::filesystem::path& path) {
  const io::moe_checkpoint source{io::checkpoint(path)};
  const auto model = io::mixture_of(source.description(), moue::no_balancing{}, moue::reference{});
  moue::parameters<double> weights(model.layout());
  io::load(source, weights);
  return run(model, weights);
}

result run_converted(const std::filesystem::path& path) {
  const io::moe_checkpoint source{io::checkpoint(path)};
  const auto plan = io::plan_of(source);
  const auto model =
      moue::convert::moe_to_moue(io::mixture_of(source.description(), moue::no_balancing{}, moue::reference{}), plan);
  moue::parameters<double> weights(model.layout());
  io::load(source, plan, weights);
  return run(model, weights);
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

converting::options wanted(const std::string& in, const std::filesystem::path& out) {
  converting::options o;
  o.in = in;
  o.out = out;
  o.rows = {"home", {1}, {}};
  return o;
}

void convert(const converting::options& o) {
  const io::moe_checkpoint source{io::checkpoint(o.in)};
  o.back ? converting::convert_back(o, source) : converting::convert_forward(o, source);
}

}  // namespace

TEST_CASE("a converted checkpoint computes what its source does, to the bit, while connections are closed") {
  const temporary_folder folder;
  for (const char* name : {"mixtral", "olmoe", "qwen2_moe", "deepseek_v2_lite", "deepseek_v3_runtime", "phimoe",
                           "granitemoeshared", "gpt_oss"}) {
    CAPTURE(name);
    convert(wanted(families + name, folder.path / name));
    const auto before = run_plain(families + name), after = run_converted(folder.path / name);
    CHECK(same(before.out, after.out));
    CHECK(same(before.dx, after.dx));
    for (const auto& info : before.gradients.layout()) {
      CAPTURE(info.name);
      const auto old = before.gradients[info.name], now = after.gradients[info.name];
      CHECK(old.rows == now.rows);
      CHECK((old.data == nullptr) == (now.data == nullptr));
      if (old.data != nullptr)  // buffers have no gradient
        CHECK(std::memcmp(old.data, now.data, static_cast<std::size_t>(info.size()) * sizeof(double)) == 0);
    }
    CHECK(same(run_plain(folder.path / name).out, before.out));  // to readers of the family nothing has changed
  }
}

TEST_CASE("open connections change outputs, and private copies of them compute the same") {
  const temporary_folder folder;
  for (const char* name : {"mixtral", "olmoe", "qwen2_moe", "granitemoeshared", "gpt_oss"}) {
    CAPTURE(name);
    auto o = wanted(families + name, folder.path / name);
    o.opening = 0;
    convert(o);
    const auto open = run_converted(folder.path / name);
    CHECK(!same(open.out, run_plain(families + name).out));
    auto back = wanted(folder.path / name, folder.path / (std::string(name) + ".back"));
    back.back = true;
    convert(back);
    const auto plain = run_plain(back.out);
    // A softmax over all candidates adds them up in the order of the router, which has to be that of the experts here.
    if (std::string(name) != "olmoe" && std::string(name) != "qwen2_moe") CHECK(same(plain.out, open.out));
    double worst = 0;
    for (std::size_t i = 0; i < plain.out.size(); ++i) worst = std::max(worst, std::abs(plain.out[i] - open.out[i]));
    CHECK(worst < 1e-13);  // roundings of sums of numbers below 10
  }
}

TEST_CASE("weights of a converted mixture keep their sharing through a file") {
  const temporary_folder folder;
  convert(wanted(families + "mixtral", folder.path / "c"));
  const io::moe_checkpoint source{io::checkpoint(folder.path / "c")};
  const auto plan = io::plan_of(source);
  const auto model = moue::convert::moe_to_moue(io::mixture_of(source.description()), plan);
  moue::parameters<float> weights(model.layout()), again(model.layout());
  io::load(source, plan, weights);
  io::save(folder.path / "weights.safetensors", weights);
  io::load(io::checkpoint(folder.path / "weights.safetensors"), again);
  moue::index_t experts = 0;
  for (const auto& info : *model.layout()) {
    experts += info.expert >= 0 ? info.size() : 0;
    CHECK(std::memcmp(weights[info.name].data, again[info.name].data, static_cast<std::size_t>(info.size()) * 4) == 0);
  }
  CHECK(experts == 2 * 4 * 3 * 16 * 12);  // every physical expert once, though two layers reach it
}

TEST_CASE("a plan that does not fit its checkpoint is refused") {
  const temporary_folder folder;
  const auto with_plan = [&](const std::string& text) {
    const io::checkpoint source(families + "mixtral");
    std::vector<io::tensor_spec> specs;
    for (const auto& name : source.names()) specs.push_back({name, source.entry(name).type, source.entry(name).shape});
    io::safetensors_writer out(folder.path / "model.safetensors", specs, {{io::conversion_key, text}});
    for (const auto& name : source.names()) out.write(name, 0, source.bytes(name));
    out.commit();
    std::filesystem::copy_file(families + "mixtral/config.json", folder.path / "config.json",
                               std::filesystem::copy_options::overwrite_existing);
    const io::moe_checkpoint made{io::checkpoint(folder.path)};
    return io::plan_of(made);
  };
  const std::string head = R"({"version": 1, "home": 4, "universal": [0], "foreign": )";
  CHECK(with_plan(head + "[[4], [0, 1]]}").foreign(1).size() == 2);
  const auto refused = [&](const std::string& text, const char* why) {
    CHECK_THROWS_WITH_AS(with_plan(text), doctest::Contains(why), moue::error);
  };
  refused(R"({"version": 2})", "another version");
  refused(R"({"version": 1, "home": 5})", "another number of experts");
  refused(head + "[[4]]}", "another number of layers");
  refused(head + "[[8], []]}", "plan that is none");
  refused(head + "[[4, 4], []]}", "plan that is none");
  refused(head + "[[0], []]}", "plan that is none");
  refused(head + R"({"a": [4], "b": []}})", "cannot be read");
  for (const char* id :
       {"4.9", "4.0", "1e300", "1000000000000000000", "99999999999999999999", "-5", "null", "true", "[4]", R"("a")"}) {
    const auto why = "plan that lists '" + std::string(id) + "' for an expert";
    if (std::string_view(id) != "1e300" && std::string_view(id).size() < 20) {
      refused(head + "[[" + id + "], []]}", why.c_str());
      refused(R"({"version": 1, "home": 4, "universal": [)" + std::string(id) + R"(], "foreign": [[4], []]})",
              why.c_str());
    } else {
      refused(head + "[[" + id + "], []]}", "for an expert");
    }
  }
  refused(R"({"version": 1, "home": 4, "universal": [8], "foreign": [[4], []]})", "some that it has not");
  refused(R"({"version": 1, "home": 4.5, "universal": [0], "foreign": [[4], []]})", "another number of experts");
  refused(R"({"version": 1.5})", "another version");
  refused(std::string(100'000, '['), "nests more than");
  refused("{", "is no JSON");
}
