// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Mixtures and passes behind virtual functions, so that a test of many compositions is compiled once.

#include <memory>
#include <utility>

#include "moue/any/erase.hpp"

namespace test {

using moue::any_model;
using moue::any_pass;

template <moue::Storage S>
using model_pointer = std::shared_ptr<const any_model<S>>;

template <class MixtureT, moue::Storage S>
class carried_model;  // carried.hpp

template <moue::Storage S, class MixtureT>
model_pointer<S> erase(MixtureT model) {
  if constexpr (!moue::detail::on_host<typename MixtureT::backend_type>)
    return std::make_shared<carried_model<MixtureT, S>>(std::move(model));
  else
    return moue::erase<S>(std::move(model));
}

}  // namespace test
