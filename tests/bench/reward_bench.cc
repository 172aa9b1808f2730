// SPDX-License-Identifier: Apache-2.0
// reward_bench [FILE.jsonl ...]: answers that the reward `math` compares in a second on one core; files with the field
// `answer`, by default those of MATH-500 and GSM8K in ../shared/data. Each answer is compared with itself in \boxed{}
// and with the next one: half of the answers are right. The fastest of eleven rounds counts. Below, answers made to
// take long.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "rl/reward/answer_rewards.h"

namespace conclave::rl {
namespace {

constexpr int kRounds = 11;

struct Pair {
  std::string expected, response;
};

std::vector<Pair> ReadPairs(const std::string& path) {
  std::vector<std::string> answers;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::string answer = nlohmann::json::parse(line)["answer"];
    const size_t marker = answer.rfind("#### ");  // of GSM8K
    answers.push_back(marker == std::string::npos ? answer : answer.substr(marker + 5));
  }
  std::vector<Pair> pairs;
  for (size_t i = 0; i < answers.size(); ++i) {
    pairs.push_back({answers[i], "so it is \\boxed{" + answers[i] + "}."});
    pairs.push_back({answers[i], "so it is \\boxed{" + answers[(i + 1) % answers.size()] + "}."});
  }
  return pairs;
}

void Measure(const std::string& what, const std::vector<Pair>& pairs, const Reward& reward) {
  std::vector<Response> responses;
  for (const Pair& pair : pairs) responses.push_back({.text = pair.response, .answer = pair.expected});
  std::vector<Score> scores(responses.size());
  double fastest = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    reward.ScoreAll(responses, scores);
    fastest = std::min(fastest, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  const auto right = std::count_if(scores.begin(), scores.end(), [](const Score& score) { return score.value == 1; });
  absl::PrintF("%-40s %8d answers %6.1f %% right %12.0f answers/s\n",
               what.substr(what.size() - std::min<size_t>(what.size(), 40)), pairs.size(),
               100.0 * static_cast<double>(right) / static_cast<double>(pairs.size()),
               static_cast<double>(pairs.size()) / fastest);
}

std::string Repeated(const std::string& text, int times) {
  std::string all = text;
  for (int i = 1; i < times; ++i) all += "," + text;
  return all;
}

int Main(std::vector<std::string> paths) {
  const std::string data = CONCLAVE_SOURCE_DIR "/../shared/data/";
  if (paths.empty()) paths = {data + "math500/test.jsonl", data + "gsm8k/test.jsonl"};
  const std::unique_ptr<Reward> reward = MakeMathReward(AnswerFallback::kNone);
  for (const std::string& path : paths) {
    const std::vector<Pair> pairs = ReadPairs(path);
    if (pairs.empty()) {
      std::fprintf(stderr, "%s: no answers\n", path.c_str());
      return 1;
    }
    Measure(path, pairs, *reward);
  }
  for (const std::string hard : {"\\sqrt{2+\\sqrt{3}}", "\\sin 3x", "(x+y)^{1000000}", "100!"}) {
    Measure(hard, {{hard, "\\boxed{" + hard + "+0}"}}, *reward);
    Measure("60 of them", {{Repeated(hard, 60), "\\boxed{" + Repeated(hard + "+0", 60) + "}"}}, *reward);
  }
  return 0;
}

}  // namespace
}  // namespace conclave::rl

int main(int argc, char** argv) { return conclave::rl::Main({argv + 1, argv + argc}); }
