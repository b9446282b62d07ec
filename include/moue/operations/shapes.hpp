// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What every product checks before it touches memory: one comparison of what the host knows. For backends.

#include <string>
#include <string_view>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// The shape of whatever a product takes: matrices, rows of tokens, weights of experts, targets.
struct product_shape {
  index_t rows = 0;
  index_t cols = 0;

  product_shape(const auto& m) : rows(m.rows), cols(m.cols) {}
  template <class T>
    requires requires(const T& target) { target.values(); }
  product_shape(const T& target) : rows(target.values().rows), cols(target.values().cols) {}
};

[[noreturn]] inline void refuse_product(std::string_view name, product_shape a, product_shape b, product_shape out,
                                        index_t rows, std::string_view fix) {
  std::string what(name);
  what += " " + shape_text(a.rows, a.cols);
  if (name != "column_sum") what += " x " + shape_text(b.rows, b.cols);
  what += " -> " + shape_text(out.rows, out.cols) + " does not fit";
  if (a.rows != rows) what += ", over " + std::to_string(rows) + " rows";
  throw error("operations", what, fix);
}

/// y = x wᵀ over `rows` rows.
inline void check_linear(product_shape x, product_shape w, product_shape y, index_t rows) {
  if (((x.rows ^ rows) | (y.rows ^ rows) | (x.cols ^ w.cols) | (w.rows ^ y.cols)) != 0) [[unlikely]]
    refuse_product("linear", x, w, y, rows, "give x [m, k], w [n, k] and y [m, n], with all rows of the call");
}
/// dx = dy w.
inline void check_input_gradient(product_shape dy, product_shape w, product_shape dx, index_t rows) {
  if (((dy.rows ^ rows) | (dx.rows ^ rows) | (dy.cols ^ w.rows) | (w.cols ^ dx.cols)) != 0) [[unlikely]]
    refuse_product("input_gradient", dy, w, dx, rows,
                   "give dy [m, n], w [n, k] and dx [m, k], with all rows of the call");
}
/// dw = dyᵀ x, where dw is wanted.
inline void check_weight_gradient(product_shape dy, product_shape x, product_shape dw, index_t rows) {
  if (((dy.rows ^ rows) | (x.rows ^ rows) | (dy.cols ^ dw.rows) | (x.cols ^ dw.cols)) != 0) [[unlikely]]
    refuse_product("weight_gradient", dy, x, dw, rows,
                   "give dy [m, n], x [m, k] and dw [n, k], with all rows of the call");
}
/// out = the sum of the rows of x, where it is wanted.
inline void check_column_sum(product_shape x, product_shape out, index_t rows) {
  if (((x.rows ^ rows) | (out.rows ^ 1) | (x.cols ^ out.cols)) != 0) [[unlikely]]
    refuse_product("column_sum", x, x, out, rows, "give x [m, n] and out [1, n], with all rows of the call");
}

/// Copies of rows, or of weights in the compute type, for which the scratch has no room.
[[noreturn]] inline void refuse_room(std::string_view what, index_t rows, index_t cols) {
  throw error("operations", "there is no scratch for " + std::string(what) + " " + shape_text(rows, cols),
              "give products matrices in the compute type, or the scratch that the backend's needs() asks for");
}

}  // namespace moue::inline v0_1::detail
