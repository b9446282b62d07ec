// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Usage: table RESULTS [--markdown FILE] [--note TEXT]...
// From lines of results a short table and how far the goals are met; and the same as a page, with notes such as date,
// driver and command on top. Ends with 1 if an output was wrong or something failed.

#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "report_table.hpp"

int main(int argc, char** argv) {
  try {
    std::string results, markdown;
    std::vector<std::string> notes;
    for (int i = 1; i < argc; ++i) {
      const std::string flag = argv[i];
      if (flag == "--markdown" && i + 1 < argc)
        markdown = argv[++i];
      else if (flag == "--note" && i + 1 < argc)
        notes.emplace_back(argv[++i]);
      else if (results.empty())
        results = flag;
      else
        throw std::invalid_argument("usage: table RESULTS [--markdown FILE] [--note TEXT]...");
    }
    std::ifstream in(results);
    if (!in) throw std::runtime_error("cannot read " + results);
    const bench::comparison table(bench::read_results(in));
    if (!markdown.empty()) {
      std::ofstream out(markdown);
      table.write_markdown(out, notes);
      if (!out.flush()) throw std::runtime_error("cannot write " + markdown);
    }
    table.write_text(std::cout);
    return table.clean() ? 0 : 1;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}
