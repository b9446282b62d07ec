// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../../examples/language_model/checkpoint.hpp"
#include "../../examples/language_model/convert_runs.hpp"
#include "../../examples/language_model/options.hpp"

namespace lm = language_model;

namespace {

lm::corpus random_text() {
  std::mt19937_64 random(3);
  lm::corpus text;
  for (auto* part : {&text.training, &text.held_out})
    for (int i = 0; i < 3000; ++i) part->push_back(static_cast<std::uint8_t>(random() % 64));
  return text;
}

auto tiny_source() {
  return moue::mixture{moue::mlp<moue::silu>{8, 6}, moue::layer_local{lm::model_depth, 2}, moue::linear_router(2),
                       moue::universal_balance{.weight = 0.5, .gamma = 0}, moue::cpu{}};
}

lm::run_config tiny_config() {
  auto config = lm::contender(lm::model_kind::moe, 9, 11);
  config.warm_up = 2;
  return config;
}

const lm::extent tiny{{.context = 8, .batch = 4}, 2};

/// A source at step 4 of 9.
struct fixture {
  lm::corpus text = random_text();
  decltype(tiny_source()) mixture = tiny_source();
  lm::progress shown{"step", 0, 1000, 1024};
  lm::source_run source = lm::train_source(mixture, tiny_config(), 4, text, shown, tiny);

  lm::arm_result run(const lm::arm& what) { return lm::train_arm(mixture, source, what, text, shown, tiny); }
};

lm::arm converted(lm::schedule_kind schedule, double end = 0) {
  lm::arm result;
  result.what = lm::arm::kind::converted;
  result.how.topology = lm::topology_kind::shared_pool;
  result.how.rows = lm::rows_kind::fresh;
  result.how.schedule = schedule;
  result.how.end = end;
  return result;
}

std::string usage_message(std::vector<std::string_view> arguments) {
  try {
    lm::parse_options(arguments);
  } catch (const lm::usage_error& problem) {
    return problem.what();
  }
  return "";
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE_FIXTURE(fixture, "until the first connection opens, a converted run is the run that was not converted") {
  const auto control = run({});
  REQUIRE(control.losses.size() == 5);
  CHECK(control.foreign == std::vector<double>(5, 0.0));

  SUBCASE("to the end, if none opens") {
    const auto closed = run(converted(lm::schedule_kind::closed));
    CHECK(closed.losses == control.losses);  // bit for bit
    CHECK(closed.foreign == control.foreign);
    CHECK(closed.held_out.bits_per_byte == control.held_out.bits_per_byte);
  }
  SUBCASE("and no longer") {
    auto growing = converted(lm::schedule_kind::growing, 5);
    growing.how.opening = 30;  // one of 10 foreign experts opens at step 3
    const auto opened = run(growing);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(opened.losses[i] == control.losses[i]);
      CHECK(opened.foreign[i] == 0);
    }
    CHECK(opened.losses[3] != control.losses[3]);
    CHECK(opened.foreign[3] > 0.3);  // a bias of 5 outweighs every logit of so young a model
  }
  SUBCASE("with the same restart on both sides") {
    lm::arm restarted;
    restarted.next.restart = {0.5, 2};
    auto closed = converted(lm::schedule_kind::closed);
    closed.next = restarted.next;
    const auto again = run(restarted);
    CHECK(run(closed).losses == again.losses);
    CHECK(again.losses != control.losses);
    restarted.next.moments = closed.next.moments = lm::moments_kind::reset;
    const auto forgetful = run(restarted);
    CHECK(run(closed).losses == forgetful.losses);
    CHECK(forgetful.losses != again.losses);
  }
  SUBCASE("and neither differs from a run that was never stopped") {
    lm::trainer whole(mixture, tiny_config(), text, tiny.batch);
    std::vector<double> losses;
    while (!whole.done()) losses.push_back(whole.advance());
    CHECK(std::equal(losses.begin(), losses.begin() + 4, source.losses.begin(), source.losses.end()));
    CHECK(std::equal(losses.begin() + 4, losses.end(), control.losses.begin(), control.losses.end()));
  }
  SUBCASE("and a nudge is a small thing") {
    lm::arm nudged;
    nudged.what = lm::arm::kind::nudged;
    const auto other = run(nudged);
    CHECK(other.losses != control.losses);
    CHECK(other.losses[0] == doctest::Approx(control.losses[0]).epsilon(1e-4));
  }
}

TEST_CASE_FIXTURE(fixture, "a converted run that is resumed ends with the weights of one that was never stopped") {
  const auto path = std::filesystem::temp_directory_path() / ("moue_converted_" + std::to_string(::getpid()));
  const auto plan = lm::make_plan(mixture, source, converted(lm::schedule_kind::open).how);
  const auto target = moue::convert::moe_to_moue(mixture, plan);
  const auto begin = [&](auto& run) {
    run.adopt(source.state);
    moue::convert::set_openings(run.model.experts, 1.0);
  };
  const auto weights = [](const auto& run) {
    std::vector<float> all;
    for (moue::index_t i = 0; i < run.model.experts.layout().tensors(); ++i)
      all.insert(all.end(), run.model.experts[i].data,
                 run.model.experts[i].data + run.model.experts.layout()[i].size());
    return all;
  };
  lm::trainer whole(target, tiny_config(), text, tiny.batch);
  begin(whole);
  CHECK(whole.step() == 4);
  while (whole.step() < 6) whole.advance();
  lm::save_checkpoint(path, whole, text.identity());
  while (!whole.done()) whole.advance();

  const auto saved = lm::checkpoint::read(path);
  std::filesystem::remove(path);
  lm::trainer resumed(target, saved.header.config, text, tiny.batch);
  saved.restore(resumed);
  CHECK(resumed.step() == 6);
  CHECK(weights(resumed) != weights(whole));
  while (!resumed.done()) resumed.advance();
  CHECK(weights(resumed) == weights(whole));
  lm::trainer plain(mixture, saved.header.config, text, tiny.batch);
  CHECK_THROWS(saved.restore(plain));
}

TEST_CASE_FIXTURE(fixture, "a plan follows its settings") {
  auto how = converted(lm::schedule_kind::open).how;
  const auto pool = lm::make_plan(mixture, source, how);
  CHECK(pool.home == 2);
  CHECK(pool.connections() == 6 * 10);
  const std::vector<moue::index_t> nearest{6, 7, 10, 11, 4, 5, 2, 3, 0, 1};  // of layer 4, which owns 8 and 9
  CHECK(std::ranges::equal(pool.foreign(4), nearest));

  how.topology = lm::topology_kind::staggered_rotation;
  CHECK(lm::make_plan(mixture, source, how).connections() == 6 * (8 - 2));

  how.topology = lm::topology_kind::shared_pool;
  how.universal = lm::universal_kind::most_used;
  how.per_layer = 1;
  const double steps = 4;
  CHECK(std::accumulate(source.load.begin(), source.load.end(), 0.0) == doctest::Approx(6 * steps).epsilon(1e-5));
  source.load = {0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0};
  CHECK(lm::make_plan(mixture, source, how).universal == std::vector<moue::index_t>{1, 2, 5, 6, 9, 10});
  how.universal = lm::universal_kind::most_similar;
  CHECK(source.similarity.size() == 12 * 12);
  source.similarity.assign(12 * 12, 0.0);
  for (const int e : {0, 3, 4, 7, 8, 11})
    for (std::size_t other = 0; other < 12; ++other) source.similarity[static_cast<std::size_t>(e) * 12 + other] = 0.5;
  CHECK(lm::make_plan(mixture, source, how).universal == std::vector<moue::index_t>{0, 3, 4, 7, 8, 11});
}

TEST_CASE("every schedule keeps the laws of openings") {
  for (const auto kind : {lm::schedule_kind::open, lm::schedule_kind::annealed, lm::schedule_kind::growing,
                          lm::schedule_kind::sampled, lm::schedule_kind::faded, lm::schedule_kind::closed}) {
    auto how = converted(kind, -2).how;
    how.opening = 7;
    const lm::opening_schedule schedule(how);
    double before = moue::convert::closed;
    for (moue::index_t step = 0; step < 12; ++step) {
      int open = 0;
      double last = moue::convert::closed;
      for (moue::index_t rank = 0; rank < 5; ++rank) {
        const double bias = schedule(step, {2, rank, 5});
        CHECK(!std::isnan(bias));
        open += bias != moue::convert::closed;
        last = std::max(last, bias);
      }
      CHECK(last >= before);
      before = last;
      if (kind == lm::schedule_kind::closed) CHECK(open == 0);
      if (kind == lm::schedule_kind::open) CHECK(open == 5);
      if (step >= 7 && kind != lm::schedule_kind::closed) CHECK(last == -2);
    }
    CHECK(schedule.end() == (kind == lm::schedule_kind::closed ? moue::convert::closed : -2));
    if (kind != lm::schedule_kind::closed) CHECK(schedule.last_step() <= 7);
  }
}

TEST_CASE("the rate starts again where it is asked to") {
  const auto rate = [](moue::index_t step, double factor) {
    return lm::restarted_rate_at(step, 100, 10, 0.1, 50, {factor, 5});
  };
  for (const moue::index_t step : {0, 9, 49, 50, 99}) CHECK(rate(step, 0) == lm::learning_rate_at(step, 100, 10, 0.1));
  CHECK(rate(49, 2) == rate(49, 0));
  CHECK(rate(50, 2) == doctest::Approx(0.2 / 5));
  CHECK(rate(54, 2) == doctest::Approx(0.2));
  CHECK(rate(55, 2) == doctest::Approx(0.2));
  CHECK(rate(99, 2) < 0.021);
  CHECK(rate(99, 2) > 0.02);
}

TEST_CASE("the study's command line is read strictly") {
  const auto message = [](std::vector<std::string_view> rest) {
    rest.insert(rest.begin(), "convert-study");
    return usage_message(rest);
  };
  CHECK(message({}).empty());
  CHECK(contains(message({"--rows", "zero,one"}), "knows zero, mean, home, fresh, not 'one'"));
  CHECK(contains(message({"--rows", "zero,"}), "not ''"));
  CHECK(contains(message({"--end", "x"}), "'--end' needs a number from -100 to 100"));
  CHECK(contains(message({"--per-layer", "5"}), "from 1 to 4"));
  CHECK(contains(message({"--restart"}), "needs a value"));
  CHECK(contains(message({"--router", "universal"}), "linear or a normalised router"));
  CHECK(contains(message({"--steps", "10", "--at", "11"}), "ends before the conversion"));
  CHECK(contains(message({"--model", "moe"}), "does not go with convert-study"));
  CHECK(contains(message({"--topologies", "x"}), "unknown option"));
  CHECK(contains(usage_message({"compare", "--schedule", "open"}), "does not go with compare"));
  CHECK(contains(usage_message({"train", "--topology", "shared_pool,layer_local"}), "not 'shared_pool,layer_local'"));

  const std::vector<std::string_view> good{
      "convert-study", "--rows", "zero,home",         "--scale", "0.5,2", "--end", "-1,-2", "--steps", "90",
      "--schedule",    "open",   "--control-restart", "0,1"};
  const auto arms = lm::arms_of(lm::parse_options(good).study, 90);
  const auto names = lm::names_of_arms(arms);
  const std::vector<std::string> expected{"moe restart=0",
                                          "moe restart=1 rewarm=3",
                                          "moe, nudged",
                                          "converted rows=zero end=-1",  // the scale of zero is one
                                          "converted rows=zero end=-2",
                                          "converted rows=home scale=0.5 end=-1",
                                          "converted rows=home scale=0.5 end=-2",
                                          "converted rows=home scale=2 end=-1",
                                          "converted rows=home scale=2 end=-2"};
  CHECK(names == expected);
}
