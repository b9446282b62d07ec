// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a check of laws found.

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moue::inline v0_1::testing {

/// One law and whether it holds.
struct law {
  std::string name;    ///< as tests and reports name it
  bool holds = true;   ///< so far
  std::string detail;  ///< where it first broke, with numbers; empty if it holds
};

/// The laws that were checked, in order. Checks never throw because of a broken law: they record it here.
class law_report {
 public:
  /// Of `subject`, which reports name.
  explicit law_report(std::string subject) : subject_(std::move(subject)) {}

  /// Whether every law holds.
  explicit operator bool() const {
    return std::all_of(laws_.begin(), laws_.end(), [](const law& l) { return l.holds; });
  }
  /// What was checked.
  const std::string& subject() const& { return subject_; }
  std::string subject() && { return std::move(subject_); }
  /// In the order they were first checked.
  const std::vector<law>& laws() const& { return laws_; }
  std::vector<law> laws() && { return std::move(laws_); }
  /// Observations that break no law but are worth knowing, such as experts that no layer reaches.
  const std::vector<std::string>& notes() const& { return notes_; }
  std::vector<std::string> notes() && { return std::move(notes_); }

  /// Whether the law called `name` was checked and found broken.
  bool broke(std::string_view name) const {
    return std::any_of(laws_.begin(), laws_.end(), [&](const law& l) { return l.name == name && !l.holds; });
  }

  /// What broke and where, one line each, then the notes; in one line if all is well.
  std::string summary() const {
    const auto broken = std::count_if(laws_.begin(), laws_.end(), [](const law& l) { return !l.holds; });
    std::string text = subject_ + ": ";
    text += broken == 0 ? "all " + std::to_string(laws_.size()) + " laws hold"
                        : std::to_string(broken) + " of " + std::to_string(laws_.size()) + " laws broken";
    for (const auto& l : laws_)
      if (!l.holds) text += "\n  broken: " + l.name + ": " + l.detail;
    for (const auto& note : notes_) text += "\n  note: " + note;
    return text;
  }

  /// Records that `name` was tested. A law tested many times keeps its first breach. `detail` is a callable, so that a
  /// law that holds builds no text.
  template <class Detail>
  void expect(std::string_view name, bool holds, Detail&& detail) {
    auto found = std::find_if(laws_.begin(), laws_.end(), [&](const law& l) { return l.name == name; });
    if (found == laws_.end()) found = laws_.insert(laws_.end(), law{std::string(name), true, {}});
    if (holds || !found->holds) return;
    found->holds = false;
    found->detail = detail();
  }
  /// Adds an observation.
  void note(std::string text) { notes_.push_back(std::move(text)); }

  /// Runs `check`; an exception that escapes it breaks the law that policies do not throw.
  template <class Check>
  void attempt(std::string_view what, Check&& check) {
    constexpr std::string_view name = "nothing is thrown";
    try {
      check();
      expect(name, true, [] { return std::string(); });
    } catch (const std::exception& problem) {
      expect(name, false, [&] { return std::string(what) + ": " + problem.what(); });
    } catch (...) {
      expect(name, false, [&] { return std::string(what) + ": something that is no std::exception"; });
    }
  }

 private:
  std::string subject_;
  std::vector<law> laws_;
  std::vector<std::string> notes_;
};

namespace detail {

// What a policy says of itself, as `static constexpr bool` members, so that laws which it is not meant to keep are left out
// and named in a note.

/// Experts are told apart by their ids or their places.
template <class T>
concept names_matter = requires {
  requires T::names_matter;
};
/// `backward` is not the derivative of `forward`, as in straight-through estimators.
template <class T>
concept surrogate_gradient = requires {
  requires T::surrogate_gradient;
};
/// What a token gets depends on other tokens, or on where it stands among them.
template <class T>
concept tokens_matter = requires {
  requires T::tokens_matter;
};
/// A selection that need not take the best.
template <class T>
concept takes_any = requires {
  requires !T::takes_best;
};

template <class T>
void note_exemptions(law_report& report) {
  if constexpr (names_matter<T>)
    report.note("not checked, since it says names_matter: that names and order do not matter");
  if constexpr (surrogate_gradient<T>)
    report.note("not checked, since it says surrogate_gradient: that gradients agree with central differences");
  if constexpr (tokens_matter<T>) report.note("not checked, since it says tokens_matter: that tokens are independent");
  if constexpr (takes_any<T>) report.note("not checked, since it says takes_best = false: which one wins a tie");
}

}  // namespace detail
}  // namespace moue::inline v0_1::testing
