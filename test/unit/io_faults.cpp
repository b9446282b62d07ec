// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Files under adverse conditions, each met in a process of its own: no permission, no room, killed at any moment.

#include <doctest/doctest.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "child.hpp"
#include "message_of.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "moue/io/sharded.hpp"
#include "temporary_folder.hpp"

namespace {

using moue::io::dtype;

constexpr std::size_t tensors = 3, elements = 20'000;

std::vector<moue::io::tensor_spec> specs() {
  std::vector<moue::io::tensor_spec> result;
  for (std::size_t i = 0; i < tensors; ++i) result.push_back({std::to_string(i), dtype::u16, {elements}});
  return result;
}

/// Every element of every tensor is `version`, written in pieces.
template <class Writer>
void write_version(Writer&& writer, std::uint16_t version) {
  const std::vector<std::uint16_t> piece(elements / 10, version);
  for (std::size_t i = 0; i < tensors; ++i)
    for (std::size_t part = 0; part < 10; ++part)
      writer.write(std::to_string(i), part * piece.size() * 2, std::as_bytes(std::span(piece)));
  writer.commit();
}

void save_file(const std::filesystem::path& path, std::uint16_t version) {
  write_version(moue::io::safetensors_writer(path, specs()), version);
}
void save_shards(const std::filesystem::path& folder, std::uint16_t version) {
  write_version(moue::io::sharded_writer(folder, specs(), elements * 2), version);
}

/// The version that all elements have, or -1.
int version_of(const std::filesystem::path& path) {
  const moue::io::checkpoint from(path);
  const float version = from.read<float>("0")[0];
  for (const auto& name : from.names())
    for (const float element : from.read<float>(name))
      if (element != version) return -1;
  return from.names().size() == tensors ? static_cast<int>(version) : -1;
}

/// Kills a process that saves versions 1, 2, ... without end, time and again at another moment.
template <class Save>
void kill_while_saving(const std::filesystem::path& path, const std::filesystem::path& folder, const Save& save) {
  const auto begin = std::chrono::steady_clock::now();
  save(path, 0);
  const auto once = std::chrono::steady_clock::now() - begin;
  const auto files = std::distance(std::filesystem::directory_iterator(folder), {});
  std::mt19937 random(5);
  int last = 0, changed = 0;
  for (int round = 0; round < 24; ++round) {
    int saved[2] = {};  // a byte comes out of this pipe for every save
    REQUIRE(::pipe(saved) == 0);
    const auto child = start_child([&] {
      for (std::uint16_t version = static_cast<std::uint16_t>(last + 1);; ++version) {
        save(path, version);
        if (::write(saved[1], "", 1) != 1) return 1;
      }
      return 0;
    });
    char byte = 0;
    if (round % 4 == 0) CHECK(::read(saved[0], &byte, 1) == 1);   // however slow the machine is, some rounds save
    std::this_thread::sleep_for(once * (random() % 1000) / 250);  // up to four saves
    ::kill(child, SIGKILL);
    CHECK(end_of_child(child) == -SIGKILL);
    for (const int end : saved) ::close(end);
    const int version = version_of(path);
    CHECK(version >= last);
    changed += version > last;
    last = version;
  }
  CHECK(changed >= 6);
  save(path, 60'000);
  CHECK(version_of(path) == 60'000);
  CHECK(std::distance(std::filesystem::directory_iterator(folder), {}) == files);
}

/// Becomes a user whom permissions bind. Still the owner of its files: another could not even reach a temporary folder
/// that is closed to others. So what goes is root's right to ignore permissions.
void drop_privileges() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3]{};
  if (::syscall(SYS_capset, &header, none) != 0) throw std::runtime_error("capabilities cannot be dropped");
}

}  // namespace

TEST_CASE("killed while saving, one file") {
  const temporary_folder folder;
  kill_while_saving(folder / "f", folder.path, save_file);
}

TEST_CASE("killed while saving, several files") {
  const temporary_folder folder;
  kill_while_saving(folder.path, folder.path, save_shards);
}

TEST_CASE("a folder that cannot be written to") {
  const temporary_folder folder;
  save_file(folder / "f", 1);
  std::filesystem::permissions(folder.path, std::filesystem::perms{0555});
  const auto refused = [&](const auto& save) {
    return in_child([&] {
      drop_privileges();
      const auto text = message_of(save);
      return contains(text, "Permission denied") && contains(text, "choose a place") ? 0 : 1;
    });
  };
  CHECK(refused([&] { save_file(folder / "f", 2); }) == 0);
  CHECK(refused([&] { save_shards(folder.path, 2); }) == 0);
  std::filesystem::permissions(folder.path, std::filesystem::perms{0755});
  CHECK(folder.list() == std::vector<std::string>{"f"});
  CHECK(version_of(folder / "f") == 1);
}

TEST_CASE("an old index that cannot be read stops the writer: its files would not be known") {
  const temporary_folder folder;
  save_shards(folder.path, 1);
  std::filesystem::permissions(folder / "model.safetensors.index.json", std::filesystem::perms::none);
  CHECK(in_child([&] {
          drop_privileges();
          return contains(message_of([&] { save_shards(folder.path, 2); }), "Permission denied") ? 0 : 1;
        }) == 0);
  std::filesystem::permissions(folder / "model.safetensors.index.json", std::filesystem::perms{0644});
  CHECK(version_of(folder.path) == 1);
}

TEST_CASE("a file that cannot be read") {
  const temporary_folder folder;
  save_file(folder / "f", 1);
  std::filesystem::permissions(folder / "f", std::filesystem::perms::none);
  CHECK(in_child([&] {
          drop_privileges();
          return contains(message_of([&] { moue::io::checkpoint(folder / "f"); }), "Permission denied") ? 0 : 1;
        }) == 0);
}

TEST_CASE("a folder that cannot be looked into") {
  const temporary_folder folder;
  std::filesystem::create_directory(folder / "closed");
  save_shards(folder / "closed", 1);
  std::filesystem::permissions(folder / "closed", std::filesystem::perms::none);
  CHECK(in_child([&] {
          drop_privileges();
          const auto reading = message_of([&] { moue::io::checkpoint(folder / "closed"); });
          const auto inside = message_of([&] { moue::io::checkpoint(folder / "closed/model.safetensors.index.json"); });
          const auto writing = message_of([&] { save_shards(folder / "closed", 2); });
          const bool refused = reading.starts_with("moue: ") && contains(inside, "Permission denied") &&
                               contains(writing, "Permission denied");
          return refused ? 0 : 1;
        }) == 0);
  std::filesystem::permissions(folder / "closed", std::filesystem::perms{0755});
  CHECK(version_of(folder / "closed") == 1);
}

TEST_CASE("places where no file can be") {
  const temporary_folder folder;
  write_file(folder / "file", "x");
  const auto of = [](const std::filesystem::path& path) { return message_of([&] { save_file(path, 1); }); };
  CHECK(contains(of(folder / "none/f"), "No such file or directory; check the path"));
  CHECK(contains(of(folder / "file/f"), "Not a directory"));
  CHECK(contains(of(folder.path), "is not a regular file"));
  CHECK(contains(of(folder / ""), "names no file"));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);  // for a device, which would be at stake
  CHECK(contains(of(folder / "pipe"), "is not a regular file"));
  CHECK(contains(of(folder / std::string(300, 'n')), "File name too long"));
  CHECK(folder.list() == std::vector<std::string>{"file", "pipe"});
}

TEST_CASE("a limit on the size of files") {
  const temporary_folder folder;
  save_file(folder / "f", 1);
  CHECK(in_child([&] {
          std::signal(SIGXFSZ, SIG_IGN);
          moue::io::safetensors_writer begun(folder / "g", specs());  // before the limit: its writes meet it
          const rlimit limit{10'000, 10'000};
          if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
          if (!contains(message_of([&] { save_file(folder / "f", 2); }), "cannot be written: File too large")) return 3;
          if (!contains(message_of([&] { write_version(begun, 2); }), "cannot be written: File too large")) return 4;
          return 0;
        }) == 0);
  CHECK(folder.list() == std::vector<std::string>{"f"});
  CHECK(version_of(folder / "f") == 1);
}

TEST_CASE("a full disk") {
  const temporary_folder folder;
  constexpr int no_permission = 77;
  const int status = in_child([&] {
    const auto disk = folder.path.string();
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", disk.c_str(), "tmpfs", 0, "size=200k") != 0)
      return no_permission;
    save_file(folder / "f", 1);  // 120 kB
    const auto text = message_of([&] { save_file(folder / "f", 2); });
    if (!contains(text, "No space left on device; make room on the disk")) return 2;
    if (folder.list() != std::vector<std::string>{"f"}) return 3;
    return version_of(folder / "f") == 1 ? 0 : 4;
  });
  if (status == no_permission)
    MESSAGE("skipped, this user may not make a small disk");
  else
    CHECK(status == 0);
}
