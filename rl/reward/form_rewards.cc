// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/form_rewards.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "core/base/rng.h"
#include "rl/reward/response_reward.h"

namespace conclave::rl {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";
constexpr size_t kRunWords = 4;

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

// Takes open, some text without any tag, and close from the front of `text`.
bool TakeTagged(std::string_view& text, std::string_view open, std::string_view close) {
  if (!text.starts_with(open)) return false;
  const size_t end = text.find(close, open.size());
  if (end == std::string_view::npos) return false;
  const std::string_view content = text.substr(open.size(), end - open.size());
  for (const std::string_view tag : {"<think>", "</think>", "<answer>", "</answer>"}) {
    if (content.find(tag) != std::string_view::npos) return false;
  }
  text.remove_prefix(end + close.size());
  return true;
}

bool HasFormat(std::string_view text) {
  text = Trimmed(text);
  if (!TakeTagged(text, "<think>", "</think>")) return false;
  text = Trimmed(text);
  return TakeTagged(text, "<answer>", "</answer>") && text.empty();
}

// 0 up to `free`, -1 from `most` on, a line between.
double Falling(int64_t tokens, int64_t free, int64_t most) {
  if (tokens <= free) return 0;
  if (tokens >= most) return -1;
  return -static_cast<double>(tokens - free) / static_cast<double>(most - free);
}

// FNV-1a over the bytes of words and a blank behind each.
uint64_t HashOf(const std::string_view* words) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](char c) { hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3; };
  for (size_t i = 0; i < kRunWords; ++i) {
    for (const char c : words[i]) add(c);
    add(' ');
  }
  return hash;
}

double RepeatedShare(std::string_view text) {
  std::vector<std::string_view> words;
  while (!(text = Trimmed(text)).empty()) {
    words.push_back(text.substr(0, text.find_first_of(kSpaces)));
    text.remove_prefix(words.back().size());
  }
  if (words.size() < kRunWords) return 0;
  std::vector<uint64_t> runs;
  for (size_t i = 0; i + kRunWords <= words.size(); ++i) runs.push_back(HashOf(&words[i]));
  const size_t total = runs.size();
  std::sort(runs.begin(), runs.end());
  const size_t different = std::unique(runs.begin(), runs.end()) - runs.begin();
  return static_cast<double>(total - different) / static_cast<double>(total);
}

}  // namespace

std::unique_ptr<Reward> MakeFormatReward() {
  return MakeResponseReward("format", [](const Response& response) {
    return HasFormat(response.text) ? Score{.value = 1} : Score{.value = 0};
  });
}

std::unique_ptr<Reward> MakeLengthReward(int64_t target_tokens) {
  return MakeResponseReward("length", [target_tokens](const Response& response) {
    return Score{.value = Falling(response.tokens, target_tokens, response.max_tokens)};
  });
}

std::unique_ptr<Reward> MakeOverlongReward(int64_t buffer_tokens) {
  return MakeResponseReward("overlong", [buffer_tokens](const Response& response) {
    if (!response.finished) return Score{.value = -1};
    return Score{.value = Falling(response.tokens, response.max_tokens - buffer_tokens, response.max_tokens)};
  });
}

std::unique_ptr<Reward> MakeRepetitionReward() {
  return MakeResponseReward("repetition",
                            [](const Response& response) { return Score{.value = -RepeatedShare(response.text)}; });
}

std::unique_ptr<Reward> MakeRandomReward() {
  return MakeResponseReward("random", [](const Response& response) {
    return Score{.value = static_cast<double>(core::Philox(response.random_key, 0, 0)[0] >> 31)};
  });
}

}  // namespace conclave::rl
