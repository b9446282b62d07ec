// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What the programs have in common: how they end, and what they show while they run.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../../examples/language_model/progress.hpp"
#include "../../examples/program/program.hpp"
#include "../../examples/program/status_line.hpp"
#include "child.hpp"
#include "message_of.hpp"
#include "moue/io/atomic_file.hpp"
#include "temporary_folder.hpp"

namespace {

struct ending {
  int status = 0;
  std::string errors;
};

/// Runs a program whose standard output is `out`.
template <class Body>
ending run(const std::filesystem::path& out, const Body& body) {
  const temporary_folder folder;
  ending result;
  result.status = in_child([&] {
    char name[] = "program", first[] = "first";
    char* values[] = {name, first, nullptr};
    if (!std::freopen(out.c_str(), "w", stdout) || !std::freopen((folder / "errors").c_str(), "w", stderr)) return 99;
    const int status = program::run("program", 2, values, body);
    std::fflush(stderr);
    return status;
  });
  result.errors = read_file(folder / "errors");
  return result;
}

/// A terminal of `columns`, and what was written to it.
class terminal {
 public:
  explicit terminal(unsigned short columns) : master_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    if (master_ < 0 || ::grantpt(master_) != 0 || ::unlockpt(master_) != 0) throw std::runtime_error("no terminal");
    const winsize size{24, columns, 0, 0};
    ::ioctl(master_, TIOCSWINSZ, &size);
    out = ::fdopen(::open(::ptsname(master_), O_RDWR | O_NOCTTY), "w");
    if (!out) throw std::runtime_error("no terminal");
  }
  ~terminal() {
    std::fclose(out);
    ::close(master_);
  }
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;

  std::string shown() {
    std::fflush(out);
    char text[4096];
    const auto count = ::read(master_, text, sizeof text);
    return {text, static_cast<std::size_t>(count > 0 ? count : 0)};
  }

  std::FILE* out;

 private:
  int master_;
};

}  // namespace

TEST_CASE("a program ends with what its body says") {
  const auto body = [](int status) { return [=](const std::vector<std::string_view>&) { return status; }; };
  CHECK(run("/dev/null", body(0)).status == 0);
  CHECK(run("/dev/null", body(7)).status == 7);
  const auto failed = run("/dev/null", [](const auto& arguments) -> int {
    throw std::runtime_error(std::string(arguments.at(0)) + "\nprogram: all is well\x1b[2J");
  });
  CHECK(failed.status == 1);
  CHECK(failed.errors == "program: first\\nprogram: all is well\\x1b[2J\n");
  const auto usage = run("/dev/null", [](const auto&) -> int { throw program::usage_error("what?"); });
  CHECK(usage.status == 2);
  CHECK(usage.errors == "program: what?\n");
}

TEST_CASE("output that did not arrive is an error") {
  const auto print = [](std::size_t count) {
    return [=](const auto&) {
      std::printf("%s\n", std::string(count, 'x').c_str());
      return 0;
    };
  };
  for (const std::size_t count : {1u, 1'000'000u}) {  // less and more than the buffer
    const auto full = run("/dev/full", print(count));
    CHECK(full.status == 1);
    CHECK(contains(full.errors, "program: standard output cannot be written"));
    CHECK(run("/dev/null", print(count)).status == 0);
  }
  const auto both = run("/dev/full", [](const auto&) -> int {
    std::printf("x");
    throw program::usage_error("what?");
  });
  CHECK(both.status == 2);
}

TEST_CASE("a limit on the size of files is told, not died of") {
  const temporary_folder folder;
  const auto limited = run("/dev/null", [&](const auto&) {
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      moue::io::replace_file(folder / "f", std::string(2000, 'x'));
    } catch (const moue::error& problem) {
      return contains(problem.what(), "File too large; raise the limit") ? 42 : 43;
    }
    return 44;
  });
  CHECK(limited.status == 42);
  CHECK(folder.list().empty());
}

TEST_CASE("a status line is never wider than the terminal") {
  terminal screen(30);
  {
    program::status_line line(screen.out);
    CHECK(line.on_terminal());
    line.show(std::string(100, 'x'));
    CHECK(screen.shown() == "\r" + std::string(29, 'x') + "\033[K");
    line.show("short");
    CHECK(screen.shown() == "\rshort\033[K");
  }
  CHECK(screen.shown() == "\r\033[K");
  const temporary_folder folder;
  std::FILE* file = std::fopen((folder / "f").c_str(), "w");
  REQUIRE(file);
  {
    program::status_line line(file);
    line.show("x");
    line.keep();
  }
  std::fclose(file);
  CHECK(read_file(folder / "f").empty());
}

TEST_CASE("signals that ask for an end are noted once, and end the program the second time") {
  namespace lm = language_model;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    CAPTURE(number);
    CHECK(in_child([&] {
            lm::catch_interrupt();
            std::raise(number);
            return lm::interrupted == number && lm::interrupted_status() == 128 + number ? 0 : 1;
          }) == 0);
    CHECK(in_child([&] {
            lm::catch_interrupt();
            std::raise(number);
            std::raise(number);
            return 0;
          }) == -number);
    CHECK(in_child([&] {
            std::signal(number, SIG_IGN);
            lm::catch_interrupt();
            std::raise(number);
            std::raise(number);
            return lm::interrupted == 0 ? 0 : 1;
          }) == 0);
  }
}
