// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What writers ask of the system, and in which order: every call that makes something durable is watched, and is a moment
// to be killed at.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "child.hpp"
#include "message_of.hpp"
#include "moue/io/atomic_file.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "moue/io/sharded.hpp"
#include "moue/io/verify.hpp"
#include "safetensors_text.hpp"
#include "temporary_folder.hpp"

namespace {

using list = std::vector<std::string>;

/// What the calls below have seen since it was made.
struct watch {
  list events;
  std::map<ino_t, std::string> synced;  // content at the last fsync
  int calls = 0;
  int last = -1;                  // the process ends in the place of this call
  std::function<void()> at_lock;  // once, before a lock is taken

  watch() { current = this; }
  ~watch() { current = nullptr; }
  watch(const watch&) = delete;
  watch& operator=(const watch&) = delete;

  void call() {
    if (calls++ == last) ::_exit(9);
  }

  static inline watch* current = nullptr;
};

ino_t inode_of(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

extern "C" int fsync(int file) {
  if (watch::current) {
    watch::current->call();
    const auto path = "/proc/self/fd/" + std::to_string(file);
    if (std::filesystem::is_directory(path)) {
      watch::current->events.push_back("folder");
    } else {
      watch::current->synced[inode_of(path)] = read_file(path);
    }
  }
  return static_cast<int>(::syscall(SYS_fsync, file));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  if (watch::current) {
    watch::current->call();
    const auto synced = watch::current->synced.find(inode_of(from));
    const bool durable = synced != watch::current->synced.end() && synced->second == read_file(from);
    watch::current->events.push_back((durable ? "whole " : "torn ") + std::filesystem::path(to).filename().string());
  }
  return static_cast<int>(::syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}

extern "C" int flock(int file, int operation) noexcept {
  if (watch::current && watch::current->at_lock) std::exchange(watch::current->at_lock, nullptr)();
  return static_cast<int>(::syscall(SYS_flock, file, operation));
}

namespace {

const std::string index_name = "model.safetensors.index.json";
const list first_set{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
const list second_set{"model.1-00001-of-00002.safetensors", "model.1-00002-of-00002.safetensors"};

const std::vector<moue::io::tensor_spec> two{{"a", moue::io::dtype::u8, {4}}, {"b", moue::io::dtype::u8, {4}}};

void save_shards(const std::filesystem::path& folder, const std::string& content) {
  moue::io::sharded_writer writer(folder, two, 4, {}, {}, {{"config.json", "config of " + content}});
  for (const auto* name : {"a", "b"}) writer.write(name, 0, bytes_of_text(content));
  writer.commit();
}

/// The four letters that both tensors hold, in a checkpoint that is whole.
std::string content_of(const std::filesystem::path& folder) {
  const moue::io::checkpoint from(folder);
  if (!moue::io::verify(from).passed() || from.names() != list{"a", "b"}) return "broken";
  const auto text = [&](const char* name) {
    const auto bytes = from.bytes(name);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  return text("a") == text("b") ? text("a") : "mixed";
}

}  // namespace

TEST_CASE("a file is forced to the disk, whole, before it takes its place, and then its folder is") {
  const temporary_folder folder;
  watch seen;
  moue::io::replace_file(folder / "f", "text");
  CHECK(seen.events == list{"whole f", "folder"});
  seen.events.clear();
  moue::io::safetensors_writer writer(folder / "g", two);
  for (const auto* name : {"a", "b"}) writer.write(name, 0, bytes_of_text("abcd"));
  writer.commit();
  CHECK(seen.events == list{"whole g", "folder"});
}

TEST_CASE("the journal is durable before the first shard, and the index comes last") {
  const temporary_folder folder;
  watch seen;
  save_shards(folder.path, "abcd");
  list expected{"folder"};  // with the journal in it
  for (const auto& name : {first_set[0], first_set[1], std::string("config.json"), index_name})
    expected.insert(expected.end(), {"whole " + name, "folder"});
  CHECK(seen.events == expected);
  const auto journal = std::any_of(seen.synced.begin(), seen.synced.end(), [](const auto& file) {
    return file.second == "config.json\n" + first_set[0] + "\n" + first_set[1] + "\n";
  });
  CHECK(journal);
}

TEST_CASE("killed at any call that changes the folder") {
  for (const bool replaces : {false, true}) {
    bool ended = false;
    for (int last = 0; !ended; ++last) {
      CAPTURE(replaces);
      CAPTURE(last);
      const temporary_folder folder;
      if (replaces) save_shards(folder.path, "old.");
      write_file(folder / "model-00001-of-00009.safetensors", "another's");
      const int status = in_child([&] {
        watch seen;
        seen.last = last;
        save_shards(folder.path, "new.");
        return 0;
      });
      ended = status == 0;
      CHECK((ended || status == 9));
      const bool there = std::filesystem::exists(folder / index_name);
      CHECK(there >= (replaces || ended));
      if (there) {
        const auto content = content_of(folder.path);
        CHECK((content == "new." || (content == "old." && replaces && !ended)));
        if (!replaces) CHECK(read_file(folder / "config.json") == "config of new.");
      }

      save_shards(folder.path, "next");  // is not refused, and finds what was left
      CHECK(content_of(folder.path) == "next");
      CHECK(read_file(folder / "config.json") == "config of next");
      CHECK(read_file(folder / "model-00001-of-00009.safetensors") == "another's");
      CHECK(folder.list().size() == 5);
    }
  }
}

TEST_CASE("a name that another writer has just given away is not taken over") {
  const temporary_folder folder;
  moue::io::atomic_file first(folder / "f");
  first.write(0, bytes_of_text("first"));
  {
    watch seen;
    seen.at_lock = [&] {  // between the opening of the sibling and its lock
      first.commit();
      write_file(folder / "f.moue-part", "of a third, which was killed");
    };
    moue::io::atomic_file second(folder / "f");
    CHECK(read_file(folder / "f") == "first");
    second.write(0, bytes_of_text("2"));
    CHECK(read_file(folder / "f") == "first");
    second.commit();
  }
  CHECK(read_file(folder / "f") == "2");
  CHECK(folder.list() == list{"f"});
}

TEST_CASE("two writers at once: one of them is refused, and nothing is mixed") {
  const temporary_folder folder;
  std::filesystem::create_directory(folder / "shards");
  const auto file = folder / "f";
  const auto hammer = [&](const std::string& content, std::size_t length) {
    return start_child([&, content, length] {
      int saved = 0;
      for (int attempt = 0; saved < 40 && attempt < 100'000; ++attempt) {
        const auto text = message_of([&] {
          moue::io::replace_file(file, std::string(length, content[0]));
          save_shards(folder / "shards", content);
        });
        if (text.empty())
          ++saved;
        else if (!contains(text, "is being written by another"))
          return 2;
      }
      return saved == 40 ? 0 : 3;
    });
  };
  const auto one = hammer("1111", 30'000), other = hammer("2222", 50'000);
  for (int i = 0; i < 200; ++i) {
    const auto text = read_file(file);
    const bool whole = text.empty() || text == std::string(30'000, '1') || text == std::string(50'000, '2');
    CHECK(whole);
  }
  CHECK(end_of_child(one) == 0);
  CHECK(end_of_child(other) == 0);
  const auto content = content_of(folder / "shards");
  CHECK((content == "1111" || content == "2222"));
  CHECK(folder.list() == list{"f", "shards"});
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "shards"), {}) == 4);
}
