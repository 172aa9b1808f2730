// SPDX-License-Identifier: Apache-2.0
// A reward that looks at one response at a time.
#pragma once

#include <string>
#include <utility>

#include "rl/reward/reward.h"

namespace conclave::rl {

template <class Judge>  // Score operator()(const Response&) const
class ResponseReward final : public Reward {
 public:
  ResponseReward(std::string name, Judge judge) : name_(std::move(name)), judge_(std::move(judge)) {}

  std::string_view name() const override { return name_; }
  void ScoreAll(std::span<const Response> responses, std::span<Score> scores) const override {
    for (size_t i = 0; i < responses.size(); ++i) scores[i] = judge_(responses[i]);
  }

 private:
  const std::string name_;
  const Judge judge_;
};

template <class Judge>
std::unique_ptr<Reward> MakeResponseReward(std::string name, Judge judge) {
  return std::make_unique<ResponseReward<Judge>>(std::move(name), std::move(judge));
}

}  // namespace conclave::rl
