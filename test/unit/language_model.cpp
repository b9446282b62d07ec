// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "../../examples/language_model/checkpoint.hpp"
#include "../../examples/language_model/options.hpp"
#include "../../examples/language_model/statistics.hpp"
#include "../../examples/language_model/text.hpp"
#include "../../examples/language_model/trainer.hpp"

namespace lm = language_model;
namespace fs = std::filesystem;

namespace {

/// A folder that goes away with the test.
struct temporary_folder {
  fs::path path = fs::temp_directory_path() / ("moue_language_model_" + std::to_string(::getpid()));
  temporary_folder() { fs::create_directories(path); }
  ~temporary_folder() { fs::remove_all(path); }

  fs::path write(const std::string& name, const std::string& content) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << content;
    return path / name;
  }
};

std::string content_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

lm::bytes random_bytes(std::size_t count) {
  std::mt19937_64 random(3);
  lm::bytes result(count);
  for (auto& byte : result) byte = static_cast<std::uint8_t>(random() % 256);
  return result;
}

auto tiny_mixture() {
  const moue::staggered_rotation ring{.depth = 3, .pool = 5, .window = 3, .stride = 2};
  return moue::mixture{moue::mlp<moue::silu>{8, 6}, ring, moue::universal_router(2, {.rank = 4}),
                       moue::universal_balance{.weight = 0.5}, moue::cpu{}};
}
using tiny_trainer = lm::trainer<decltype(tiny_mixture())>;

lm::bytes state_of(tiny_trainer& run) {
  lm::bytes state;
  run.visit_state([&](auto values) {
    const auto block = lm::detail::bytes_of(values);
    state.insert(state.end(), block.begin(), block.end());
  });
  return state;
}

std::string message_of(const auto& act) {
  try {
    act();
  } catch (const std::exception& problem) {
    return problem.what();
  }
  return "";
}

std::string usage_message(std::vector<std::string_view> arguments) {
  return message_of([&] { lm::parse_options(arguments); });
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the transformer's gradient agrees with central differences") {
  const auto mixture = tiny_mixture();
  const lm::shape sizes{.context = 5, .batch = 2, .heads = 2};
  lm::transformer<std::remove_const_t<decltype(mixture)>, double> model(mixture, sizes, moue::mode::training, 3);
  std::mt19937_64 random(5);
  const auto shake = [&](auto& weights) {  // zeros and ones hide mistakes
    for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
      for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
        weights[i].data[j] += 0.2 * (static_cast<double>(random() >> 11) * 0x1p-53 - 0.5);
  };
  shake(model.dense);
  shake(model.experts);
  const auto windows = random_bytes(static_cast<std::size_t>(sizes.batch * lm::batch::window(sizes.context)));
  const lm::batch text{windows, sizes.context};
  const auto loss = [&] { return model.loss(text) + model.balance(); };
  model.zero_gradients();
  model.loss(text);
  model.backward(text);
  double worst = 0;
  const auto check = [&](auto& weights, const auto& gradients) {
    for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
      for (moue::index_t j = 0; j < weights.layout()[i].size(); j += 1 + weights.layout()[i].size() / 29) {
        constexpr double step = 1e-5;
        double& w = weights[i].data[j];
        const double before = w;
        w = before + step;
        const double above = loss();
        w = before - step;
        const double below = loss();
        w = before;
        worst = std::max(worst, std::abs((above - below) / (2 * step) - gradients[i].data[j]));
      }
  };
  check(model.dense, model.dense_gradients);
  check(model.experts, model.expert_gradients);
  // Rounding of a loss near 6 gives 1e-15 * 6 / 1e-5; the step's own error is of the same size. Gradients reach 1.
  CHECK(worst < 3e-9);
}

TEST_CASE("a resumed run ends with the weights of one that was never stopped") {
  const temporary_folder folder;
  const auto path = folder.path / "run.ckpt";
  const auto mixture = tiny_mixture();
  lm::corpus text;
  text.training = random_bytes(3000);
  text.held_out = random_bytes(500);
  auto config = lm::contender(lm::model_kind::moue, 6, 11);
  config.warm_up = 2;
  tiny_trainer whole(mixture, config, text);
  while (!whole.done()) whole.advance();

  tiny_trainer first(mixture, config, text);
  for (int i = 0; i < 3; ++i) first.advance();
  lm::save_checkpoint(path, first, text.identity());
  const auto saved = lm::checkpoint::read(path);
  CHECK(saved.header.step == 3);
  CHECK(saved.header.config.seed == 11);
  CHECK(saved.header.text == text.identity());
  tiny_trainer second(mixture, saved.header.config, text);
  saved.restore(second);
  CHECK(state_of(second) == state_of(first));
  while (!second.done()) second.advance();
  CHECK(state_of(second) == state_of(whole));
  CHECK(state_of(second) != state_of(first));

  SUBCASE("of which no part is missing or altered") {
    const auto good = content_of(path);
    const auto message = [&](const std::string& content) {
      return message_of([&] { lm::checkpoint::read(folder.write("bad.ckpt", content)); });
    };
    CHECK(message(good).empty());
    for (const std::size_t length : {good.size() - 1, sizeof(lm::checkpoint_header), sizeof(lm::checkpoint_header) - 1})
      CHECK(contains(message(good.substr(0, length)), "truncated"));
    CHECK(contains(message(good + "x"), "too long"));
    CHECK(contains(message(""), "not a checkpoint"));
    CHECK(contains(message("#!/bin/sh\nexit 0\n"), "not a checkpoint"));
    for (const std::size_t place : {std::size_t{20}, std::size_t{70}, good.size() / 2, good.size() - 1}) {
      auto bad = good;
      bad[place] = static_cast<char>(bad[place] ^ 4);
      CHECK(contains(message(bad), "damaged"));
    }
    auto other_version = good;
    other_version[8] = 9;
    CHECK(contains(message(other_version), "another version"));
    CHECK(contains(message_of([&] { lm::checkpoint::read(folder.path / "none"); }), "cannot be read"));
  }
  SUBCASE("and a checkpoint that cannot be written leaves everything as it was") {
    const auto before = content_of(path);
    CHECK_THROWS(lm::save_checkpoint(folder.path / "no_folder" / "x.ckpt", second, 0));
    fs::create_directories(folder.path / "is_folder" / "x");
    CHECK_THROWS(lm::save_checkpoint(folder.path / "is_folder", second, 0));
    CHECK(content_of(path) == before);
    CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 2);  // no partial file stays behind
    CHECK_THROWS(lm::require_writable(folder.path / "no_folder" / "x.ckpt"));
    CHECK_THROWS(lm::require_writable(folder.path / "is_folder"));
    CHECK_THROWS(lm::require_writable(folder.write("diary.txt", "dear diary")));
    CHECK_NOTHROW(lm::require_writable(path));
    CHECK_NOTHROW(lm::require_writable(folder.path / "new.ckpt"));
  }
  SUBCASE("and belongs to a model of its own size") {
    const moue::mixture other{moue::mlp<moue::silu>{8, 7}, mixture.topology(), moue::universal_router(2, {.rank = 4}),
                              moue::universal_balance{.weight = 0.5}, moue::cpu{}};
    tiny_trainer wrong(other, config, text);
    const auto before = state_of(wrong);
    CHECK_THROWS(saved.restore(wrong));
    CHECK(state_of(wrong) == before);
  }
}

TEST_CASE("an evaluation describes routing") {
  const auto mixture = tiny_mixture();
  lm::corpus text;
  text.training = text.held_out = random_bytes(3000);
  tiny_trainer run(mixture, lm::contender(lm::model_kind::moue, 4, 1), text);
  CHECK(run.evaluate().bits_per_byte == doctest::Approx(8).epsilon(0.01));  // the head starts near zero
  while (!run.done()) run.advance();
  const auto result = run.evaluate();
  for (std::size_t a = 0; a < 3; ++a) {
    double sum = 0;
    for (moue::index_t e = 0; e < 5; ++e) {
      const double share = result.share[a][static_cast<std::size_t>(e)];
      CHECK(std::isnan(share) != moue::connects(mixture.topology(), static_cast<moue::index_t>(a), e));
      if (!std::isnan(share)) sum += share;
    }
    CHECK(sum == doctest::Approx(1).epsilon(1e-5));  // 64 shares added in float
    CHECK(result.reuse[a][a] == doctest::Approx(1).epsilon(1e-5));
    CHECK(result.similarity[a][a] == doctest::Approx(1).epsilon(1e-5));
    for (std::size_t b = 0; b < 3; ++b) CHECK(std::abs(result.similarity[a][b]) < 1.00001);
  }
  CHECK(result.load.raw >= 1);
}

TEST_CASE("contenders have as many physical and active experts") {
  const auto size = [](lm::model_kind model) {
    return lm::with_mixture(lm::contender(model, 9, 1), [](const auto& mixture) {
      CHECK(mixture.experts() == lm::physical_experts);
      moue::index_t routers = 0;
      for (const auto& tensor : *mixture.layout()) routers += tensor.expert < 0 ? tensor.size() : 0;
      auto result = lm::size_of(mixture, moue::parameter_layout());
      result.physical -= routers;
      result.active -= routers;
      return result;
    });
  };
  const auto plain = size(lm::model_kind::moe);
  CHECK(plain.physical == 24 * 2 * 64 * 64);
  CHECK(plain.active == 6 * 2 * 2 * 64 * 64);
  CHECK(plain.virtual_width == 24);
  for (const auto other : {lm::model_kind::moe_shared, lm::model_kind::moue}) {
    CHECK(size(other).physical == plain.physical);
    CHECK(size(other).active == plain.active);
  }
  CHECK(size(lm::model_kind::moe_shared).virtual_width == 18);
  CHECK(size(lm::model_kind::moue).virtual_width == 6 * 16);
}

TEST_CASE("the command line is read strictly") {
  CHECK(contains(usage_message({}), "say what to do"));
  CHECK(contains(usage_message({"trian"}), "no command 'trian'"));
  CHECK(contains(usage_message({"train", "--stepz", "3"}), "unknown option '--stepz'"));
  CHECK(contains(usage_message({"train", "extra"}), "unknown option 'extra'"));
  CHECK(contains(usage_message({"train", "--steps"}), "'--steps' needs a value"));
  for (const std::string_view bad : {"", "0", "-3", "12x", "1e3", "99999999999999999999"})
    CHECK(contains(usage_message({"train", "--steps", bad}), "'--steps' needs a number from 1 to 1000000"));
  for (const std::string_view bad : {"nan", "inf", "0", "2", "fast"})
    CHECK(contains(usage_message({"train", "--lr", bad}), "'--lr' needs a number"));
  CHECK(contains(usage_message({"train", "--model", "dense"}), "knows moe, moe_shared, moue, not 'dense'"));
  CHECK(contains(usage_message({"train", "--topology", "ring"}), "staggered_rotation"));
  CHECK(contains(usage_message({"compare", "--save", "x"}), "does not go with compare"));
  CHECK(contains(usage_message({"generate"}), "--resume FILE"));
  CHECK(contains(usage_message({"train", "--resume", "x", "--lr", "0.1"}), "keeps its settings"));
  CHECK(contains(usage_message({"train", "--steps", "10", "--warmup", "11"}), "longer than the run"));
  CHECK(contains(usage_message({"train", "--text", ""}), "needs a path"));

  const std::vector<std::string_view> good{"compare", "--topology", "shared_pool", "--router", "normalised", "--steps",
                                           "90",      "--lr",       "0.5",         "--seeds",  "7"};
  const auto read = lm::parse_options(good);
  CHECK(read.seeds == 7);
  const auto config = lm::configure(read, lm::model_kind::moue, 5);
  CHECK(config.topology == lm::topology_kind::shared_pool);
  CHECK(config.router == lm::router_kind::normalised);
  CHECK(config.steps == 90);
  CHECK(config.learning_rate == 0.5);
  CHECK(config.warm_up == std::lround(lm::tuned_moue.warm_up * 90));
  CHECK(config.seed == 5);
  const std::vector<std::string_view> help{"train", "--nonsense", "--help"};
  CHECK(lm::parse_options(help).help);
}

TEST_CASE("text is divided by file, whatever else is in the folder") {
  const temporary_folder folder;
  std::string expected_out;
  for (int i = 0; i < 60; ++i) {
    const auto name = "part/file" + std::to_string(i);
    const std::string content(40, static_cast<char>('0' + i));
    folder.write(name, content);
    if (lm::detail::held_out_by_name(name)) expected_out += content[0];
  }
  folder.write("empty", "");
  folder.write("binary", std::string("a\0b", 3));
  const auto text = lm::read_text(folder.path, 8);
  CHECK(text.training.size() + text.held_out.size() == 60 * 40);
  CHECK(text.held_out.size() == expected_out.size() * 40);
  CHECK(expected_out.size() >= 1);
  CHECK(expected_out.size() <= 15);  // 60 names at 8 %: 4.8 expected
  for (const char c : expected_out) {
    CHECK(std::count(text.held_out.begin(), text.held_out.end(), static_cast<std::uint8_t>(c)) == 40);
    CHECK(std::count(text.training.begin(), text.training.end(), static_cast<std::uint8_t>(c)) == 0);
  }
  CHECK(lm::read_text(folder.path, 8).identity() == text.identity());

  const auto single = lm::read_text(folder.write("single.txt", std::string(900, 'a') + std::string(100, 'b')), 8);
  CHECK(single.training.size() == 920);
  CHECK(single.held_out == lm::bytes(80, 'b'));

  const auto message = [&](const fs::path& path) { return message_of([&] { lm::read_text(path, 64); }); };
  CHECK(contains(message(folder.path / "none"), "no such file or folder"));
  CHECK(contains(message(folder.path / "empty"), "too short"));
  CHECK(contains(message(folder.write("lonely/empty", "").parent_path()), "holds no text"));
  CHECK(contains(message(folder.write("lonely/brief", "some words").parent_path()), "too short"));
}

TEST_CASE("windows depend on seed and step alone") {
  const auto text = random_bytes(1000);
  const auto windows = lm::training_windows(text, 8, 4, 1, 2);
  CHECK(windows.size() == 4 * (8 + 4));
  CHECK(windows == lm::training_windows(text, 8, 4, 1, 2));
  CHECK(windows != lm::training_windows(text, 8, 4, 1, 3));
  CHECK(windows != lm::training_windows(text, 8, 4, 2, 2));
  CHECK(std::search(text.begin(), text.end(), windows.begin(), windows.begin() + 12) != text.end());
  const lm::batch first{windows, 8};
  CHECK(first.tokens() == 32);
  CHECK(first.input(9, 0) == windows[12 + 1 + 3]);
  CHECK(first.input(9, 3) == windows[12 + 1]);
  CHECK(first.target(9) == windows[12 + 1 + 4]);
  const lm::bytes shortest(text.begin(), text.begin() + 12);
  CHECK(lm::training_windows(shortest, 8, 1, 1, 2) == shortest);
  CHECK(lm::held_out_windows(shortest, 8, 1, 1, 2) == shortest);
}

TEST_CASE("statistics and schedule") {
  const lm::paired_difference d({2, 4, 9}, {1, 2, 3});
  CHECK(d.pairs == std::vector<double>{1, 2, 6});
  CHECK(d.mean == 3);
  CHECK(d.half_width == doctest::Approx(4.303 * std::sqrt(7.0 / 3)));  // variance (4 + 1 + 9) / 2
  CHECK(std::isnan(lm::paired_difference({1}, {2}).half_width));
  CHECK(lm::student_t(30) == doctest::Approx(2.0423).epsilon(1e-4));  // tabulated; the expansion has three decimals
  CHECK(lm::student_t(1000) == doctest::Approx(1.9623).epsilon(1e-4));

  CHECK(lm::learning_rate_at(0, 100, 10, 1) == doctest::Approx(0.1));
  CHECK(lm::learning_rate_at(10, 100, 10, 1) == 1);
  CHECK(lm::learning_rate_at(55, 100, 10, 1) == doctest::Approx(0.55));
  CHECK(lm::learning_rate_at(100, 100, 10, 1) == doctest::Approx(0.1));
  CHECK(lm::learning_rate_at(0, 1, 0, 1) == 1);
}
