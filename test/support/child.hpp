// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <stdexcept>

/// Starts a process that runs `act` and ends with what it returns, or with 1 if it throws.
template <class Act>
pid_t start_child(const Act& act) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("no process can be started");
  if (child > 0) return child;
  int status = 1;
  try {
    status = act();
  } catch (...) {
  }
  ::_exit(status);
}

/// What it returned, or -signal if that ended it.
inline int end_of_child(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) throw std::runtime_error("the process is gone");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

template <class Act>
int in_child(const Act& act) {
  return end_of_child(start_child(act));
}
