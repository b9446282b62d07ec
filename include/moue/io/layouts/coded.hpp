// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which scheme of low precision the matrix of a slice stands in, and whether its tensors have the shapes that it needs.
/// Looks at names, types and shapes alone.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/layouts/description.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"
#include "moue/io/schemes.hpp"

namespace moue::inline v0_1::io {

/// The tensors that hold a matrix in codes, or all matrices of a layer's experts.
struct coded_tensors {
  const scheme* how = nullptr;        ///< null if none was recognised
  std::string codes;                  ///< name of the codes, as all down to `shape`; empty: there is none
  std::string scales;                 ///< of the codes, per tile
  std::string zeros;                  ///< codes of zero, per tile
  std::string groups;                 ///< the group of each column
  std::string whole;                  ///< the scale of the whole matrix
  std::string shape;                  ///< of the matrix
  std::array<index_t, 2> tile{1, 1};  ///< numbers that share a scale: rows, columns
  int bits = 4;                       ///< of a code in a word
  int zero = 0;                       ///< added to zeros, or in place of them
};

namespace detail {

inline std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string result = "[";
  for (const auto n : shape) result += (result.size() > 1 ? ", " : "") + std::to_string(n);
  return result + "]";
}
inline std::uint64_t ceiling(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0); }

/// Every name that a tensor of the matrix called `pattern` may have, its own among them.
inline std::vector<std::string> stored_names(std::string_view pattern) {
  std::vector<std::string> names{std::string(pattern)};
  for (const auto& one : schemes)
    for (const auto piece : {one.codes, one.scales, one.zeros, one.groups, one.whole, one.shape, one.ignored}) {
      auto name = piece_name(pattern, piece);
      if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
    }
  return names;
}

/// Finds the scheme of one slice. `find` gives the entry of a name, or null.
template <class Find>
class coded_finder {
 public:
  coded_finder(const moe_description& d, const moe_slice& s, const Find& find)
      : d_(d),
        s_(s),
        find_(find),
        rows_(static_cast<std::uint64_t>(s.lines())),
        cols_(static_cast<std::uint64_t>(s.line())),
        stacked_(s.shape.size() == 3) {}

  /// Nothing if the matrix stands there as plain numbers, or not at all. Throws if something is amiss.
  std::optional<coded_tensors> run() {
    const auto* plain = find_(s_.tensor);
    const bool numbers = plain && bits_of(plain->type) > 8;
    for (const auto& one : schemes) {
      if (!is_there(one)) continue;
      if (numbers)
        fail(s_.tensor, "is not of type F8_E4M3, but has scales called " + shown(piece_name(s_.tensor, one.scales)),
             "tensors of 8 bits have scales, others have none");
      const auto found = read(one);
      refuse_others({found.codes, found.scales, found.zeros, found.groups, found.whole, found.shape});
      return found;
    }
    if (plain && !numbers)
      fail(s_.tensor,
           "is of type " + plain->type_name + " without scales called " +
               shown(piece_name(s_.tensor, "weight_scale_inv")) + " or " + shown(piece_name(s_.tensor, "weight_scale")),
           "check that the checkpoint is complete");
    if (plain) refuse_others({s_.tensor});
    return {};
  }

 private:
  [[noreturn]] static void fail(const std::string& name, const std::string& what, const std::string& fix) {
    throw error("checkpoint layout", shown(name) + " " + what, fix, error_kind::content);
  }
  /// A tensor that another scheme knows would change the numbers.
  void refuse_others(const std::vector<std::string>& used) const {
    for (const auto& name : stored_names(s_.tensor)) {
      if (!find_(name) || std::find(used.begin(), used.end(), name) != used.end()) continue;
      const bool of_activations = std::any_of(std::begin(schemes), std::end(schemes), [&](const scheme& one) {
        return !one.ignored.empty() && piece_name(s_.tensor, one.ignored) == name;
      });
      if (!of_activations)
        fail(name,
             "stands beside a matrix that is " +
                 (name_.empty() ? "plain numbers" : "in the scheme '" + std::string(name_) + "'"),
             "it is not known what it changes; convert the checkpoint to a scheme that is in the table");
    }
  }
  const tensor_entry* piece(std::string_view word) const {
    const auto name = piece_name(s_.tensor, word);
    return name.empty() ? nullptr : find_(name);
  }
  std::string name_if_there(std::string_view word) const {
    return piece(word) ? piece_name(s_.tensor, word) : std::string();
  }

  /// Whether the tensors are those of the scheme. GPTQ and AWQ share names, as do bytes and nibbles: the shape tells.
  bool is_there(const scheme& one) const {
    const auto* codes = piece(one.codes);
    const auto* scales = piece(one.scales);
    if (!codes || !scales) return false;
    const auto last = codes->shape.empty() ? 0 : codes->shape.back();
    switch (one.how) {
      case packing::bytes:
        return codes->type != dtype::u8;
      case packing::nibbles:
        return codes->type == dtype::u8;
      case packing::words:
        return codes->type != dtype::u8;
      case packing::words_down:
        return codes->shape.size() != 2 || last == rows_;
      case packing::words_mixed:
        break;
    }
    return last != rows_;
  }

  /// `shape` with the experts in front, if they are all in one tensor.
  std::vector<std::uint64_t> all(std::vector<std::uint64_t> shape) const {
    if (stacked_) shape.insert(shape.begin(), s_.shape[0]);
    return shape;
  }
  void check(std::string_view word, const std::vector<std::uint64_t>& shape, std::span<const dtype> types) const {
    const auto& tensor = *piece(word);
    if (tensor.shape != shape)
      fail(tensor.name, "has shape " + shape_text(tensor.shape) + ", not " + shape_text(shape),
           "check that the checkpoint is whole and of one model");
    if (std::find(types.begin(), types.end(), tensor.type) == types.end())
      fail(tensor.name, "has type " + shown(tensor.type_name) + ", in which '" + std::string(name_) + "' has none such",
           "convert it again");
  }

  coded_tensors read(const scheme& one) {
    name_ = one.name;
    coded_tensors found{.how = &one,
                        .codes = piece_name(s_.tensor, one.codes),
                        .scales = piece_name(s_.tensor, one.scales),
                        .zeros = name_if_there(one.zeros),
                        .groups = name_if_there(one.groups),
                        .whole = name_if_there(one.whole),
                        .shape = name_if_there(one.shape)};
    if (s_.shape.size() < 2 || s_.transposed)
      fail(found.codes, "is in the scheme '" + std::string(one.name) + "', which is for matrices as they are",
           "convert it again");
    const bool in_words = one.how >= packing::words;
    if (in_words) found.bits = bits(one);
    const std::uint64_t n = static_cast<std::uint64_t>(32 / found.bits);
    switch (one.how) {
      case packing::bytes:
        check(one.codes, s_.shape, in_bytes);
        break;
      case packing::nibbles:
        even(found.codes, cols_, 2);
        check(one.codes, all({rows_, cols_ / 2}), std::span(&pairs, 1));
        break;
      case packing::words:
        check(one.codes, all({rows_, ceiling(cols_, n)}), words);
        break;
      case packing::words_down:
        even(found.codes, cols_, n);
        even(found.codes, rows_, n);
        check(one.codes, {cols_ / n, rows_}, words);
        break;
      case packing::words_mixed:
        even(found.codes, rows_, 8);
        check(one.codes, {cols_, rows_ / 8}, words);
        break;
    }
    find_tile(one, found);
    find_zeros(one, found, n);
    if (!found.groups.empty()) check(one.groups, {cols_}, words);
    if (!found.shape.empty() && piece(one.shape)->shape != std::vector<std::uint64_t>{2})
      fail(found.shape, "is no pair of sizes", "convert it again");
    if (!found.whole.empty() && elements(*piece(one.whole)) != 1)
      fail(found.whole, "is no single number", "convert it again");
    if (one.how == packing::nibbles && piece(one.scales)->type == dtype::f8_e4m3 && found.whole.empty())
      fail(found.scales,
           "is of type F8_E4M3, without a scale of the whole called " + shown(piece_name(s_.tensor, one.whole)),
           "check that the checkpoint is complete");
    return found;
  }

  static void even(const std::string& name, std::uint64_t n, std::uint64_t part) {
    if (n % part != 0)
      fail(name, "packs " + std::to_string(n) + " numbers by " + std::to_string(part), "convert it again");
  }
  static std::uint64_t elements(const tensor_entry& tensor) {
    std::uint64_t n = 1;
    for (const auto size : tensor.shape) n = size == 0 || n > ~std::uint64_t{0} / size ? 0 : n * size;
    return n;
  }

  int bits(const scheme& one) const {
    const auto& shape = piece(one.codes)->shape;
    if (one.how == packing::words_mixed || shape.size() != 2) return 4;
    const auto packed = one.how == packing::words ? shape[1] : shape[0];
    return packed == ceiling(cols_, 4) && packed != ceiling(cols_, 8) ? 8 : 4;
  }

  /// From the shape of the scales to the numbers that share one.
  void find_tile(const scheme& one, coded_tensors& found) {
    const auto& scales = *piece(one.scales);
    static constexpr dtype types[] = {dtype::f32, dtype::bf16, dtype::f16, dtype::f8_e4m3, dtype::f8_e8m0, dtype::u8};
    const auto rows = static_cast<index_t>(rows_), cols = static_cast<index_t>(cols_);
    auto shape = scales.shape;
    if (one.how >= packing::words_down) {
      const auto groups = shape.empty() ? 0 : shape[0];
      if (groups == 0 || cols_ % groups != 0) misfit(scales);
      check(one.scales, {groups, rows_}, types);
      found.tile = {1, static_cast<index_t>(cols_ / groups)};
      return;
    }
    if (stacked_) {
      if (shape.empty() || shape[0] != s_.shape[0]) misfit(scales);
      shape.erase(shape.begin());
    }
    using sizes = std::vector<std::uint64_t>;
    const auto height = static_cast<std::uint64_t>(d_.tile[0]), width = static_cast<std::uint64_t>(d_.tile[1]);
    if (one.how == packing::bytes && shape == sizes{ceiling(rows_, height), ceiling(cols_, width)})
      found.tile = d_.tile;
    else if (std::all_of(shape.begin(), shape.end(), [](auto size) { return size == 1; }) && shape.size() <= 2)
      found.tile = {rows, cols};
    else if (shape == sizes{rows_} || shape == sizes{rows_, 1})
      found.tile = {1, cols};
    else if (shape.size() == 2 && shape[0] == rows_ && shape[1] > 0 && cols_ % shape[1] == 0)
      found.tile = {1, static_cast<index_t>(cols_ / shape[1])};
    else
      misfit(scales);
    check(one.scales, scales.shape, types);
  }
  [[noreturn]] void misfit(const tensor_entry& scales) const {
    fail(scales.name,
         "has shape " + shape_text(scales.shape) + ", which is no grid of scales for " +
             shape_text(all({rows_, cols_})) + " (tiles of " + std::to_string(d_.tile[0]) + " x " +
             std::to_string(d_.tile[1]) + ", rows, or parts of rows)",
         "check that the checkpoint is whole, and 'weight_block_size' in config.json");
  }

  void find_zeros(const scheme& one, coded_tensors& found, std::uint64_t n) const {
    const auto groups = static_cast<std::uint64_t>(s_.line() / found.tile[1]);
    switch (one.how) {
      case packing::bytes:
      case packing::nibbles:
        return;
      case packing::words:
        if (found.zeros.empty())
          found.zero = 1 << (found.bits - 1);
        else
          check(one.zeros, {ceiling(rows_, n), groups}, words);
        return;
      case packing::words_down:
        if (!d_.zeros_as_they_are) found.zero = 1;
        break;
      case packing::words_mixed:
        break;
    }
    if (found.zeros.empty())
      fail(piece_name(s_.tensor, one.zeros), "is missing", "check that the checkpoint is complete");
    check(one.zeros, {groups, rows_ / n}, words);
  }

  static constexpr dtype words[] = {dtype::i32, dtype::u32};
  static constexpr dtype in_bytes[] = {dtype::f8_e4m3, dtype::f8_e5m2, dtype::i8};
  static constexpr dtype pairs = dtype::u8;

  const moe_description& d_;
  const moe_slice& s_;
  const Find& find_;
  std::uint64_t rows_, cols_;
  bool stacked_;
  std::string_view name_;
};

template <class Find>
std::optional<coded_tensors> find_coded(const moe_description& d, const moe_slice& s, const Find& find) {
  return coded_finder<Find>(d, s, find).run();
}

}  // namespace detail
}  // namespace moue::inline v0_1::io
