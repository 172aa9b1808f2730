// SPDX-License-Identifier: Apache-2.0
#include "rl/rejection.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace conclave::rl {
namespace {

class Selection : public ::testing::Test {
 protected:
  static constexpr char kPrompt[] = "2+3=";

  Selection() : tokenizer_(std::move(data::LoadTokenizer("bytes")).value()) {}

  data::ChatTemplate Template() const { return data::ChatTemplate::Choose("auto", *tokenizer_).value(); }

  data::Prompt PromptOf(int64_t) const {
    const std::vector<data::Message> messages = {{data::Role::kUser, kPrompt}};
    return {
        .text = kPrompt, .answer = "5", .ids = Template().Render(*tokenizer_, messages, data::GenerationPrompt::kAdd)};
  }

  // A sample whose tokens are those of its text and the end token.
  Episode Answer(const std::string& text, double first_reward = 1) const {
    Episode episode;
    tokenizer_->Encode(text, data::Parse::kText, episode.completion.tokens);
    episode.completion.tokens.push_back(tokenizer_->eos_id());
    episode.completion.ending = Ending::kEndToken;
    episode.text = text;
    episode.parts = {first_reward, 0.0};
    episode.reward = first_reward;
    return episode;
  }

  Group GroupOf(int64_t draw, std::vector<Episode> episodes) const {
    Group group{.draw = draw, .prompt = PromptOf(draw).ids, .answer = "5", .episodes = std::move(episodes)};
    for (size_t i = 0; i < group.episodes.size(); ++i) {
      group.episodes[i].completion.draw = draw;
      group.episodes[i].completion.sample = static_cast<int64_t>(i);
    }
    return group;
  }

  RejectionCounts Select(int64_t keep, const std::vector<Group>& groups) {
    Rejection rejection(keep, *tokenizer_, Template(), "");
    std::string lines;
    const RejectionCounts counts = rejection.Select(
        groups, [this](int64_t draw) { return PromptOf(draw); }, lines);
    for (size_t begin = 0, end; (end = lines.find('\n', begin)) != std::string::npos; begin = end + 1) {
      kept_.push_back(nlohmann::json::parse(lines.substr(begin, end - begin)));
    }
    return counts;
  }

  std::vector<std::string> Responses() const {
    std::vector<std::string> responses;
    for (const nlohmann::json& line : kept_) responses.push_back(line.at("response"));
    return responses;
  }

  const std::unique_ptr<data::Tokenizer> tokenizer_;
  std::vector<nlohmann::json> kept_;
};

TEST_F(Selection, KeepsTheShortestRightSamplesAndOfEquallyLongTheFirst) {
  const RejectionCounts counts = Select(
      2, {GroupOf(7, {Answer("<answer>005</answer>"), Answer("<answer>4</answer>", 0), Answer("<answer>05</answer>"),
                      Answer("<answer>5 </answer>"), Answer("<answer>5</answer>")})});
  EXPECT_EQ(Responses(), (std::vector<std::string>{"<answer>5</answer>", "<answer>05</answer>"}));
  EXPECT_EQ(kept_[1], (nlohmann::json{{"prompt", kPrompt},
                                      {"response", "<answer>05</answer>"},
                                      {"answer", "5"},
                                      {"reward", 1.0},
                                      {"draw", 7},
                                      {"sample", 2}}));
  EXPECT_EQ(counts.samples, 5);
  EXPECT_EQ(counts.wrong, 1);
  EXPECT_EQ(counts.accepted, 4);
  EXPECT_EQ(counts.kept, 2);
  EXPECT_EQ(counts.answered, 1);
  EXPECT_EQ(counts.kept_tokens, 4 + 5);  // tags are tokens
}

TEST_F(Selection, TakesNoTextTwiceForTheSamePrompt) {
  const RejectionCounts counts = Select(4, {GroupOf(0, {Answer("<answer>5</answer>"), Answer("<answer>5</answer>")}),
                                            GroupOf(1, {Answer("<answer>5</answer>"), Answer("<answer>05</answer>")})});
  EXPECT_EQ(Responses(), (std::vector<std::string>{"<answer>5</answer>", "<answer>05</answer>"}));
  EXPECT_EQ(counts.repeated, 2);
  EXPECT_EQ(counts.accepted, 4);
  EXPECT_EQ(counts.kept, 2);
  EXPECT_EQ(counts.answered, 2);
}

TEST_F(Selection, TheFirstRewardDecidesAndAFailedVerifierIsNoProof) {
  Episode other = Answer("<answer>5</answer>", 0), failed = Answer("<answer>5</answer>");
  other.parts[1] = 1;
  other.reward = 10;
  failed.counted = false;
  EXPECT_EQ(Select(4, {GroupOf(0, {other, failed})}).wrong, 2);
  EXPECT_TRUE(kept_.empty());
}

TEST_F(Selection, LeavesOutWhatWasCutOff) {
  Episode cut = Answer("<answer>5</answer>");
  cut.completion.tokens.pop_back();
  cut.completion.ending = Ending::kMaxTokens;
  EXPECT_EQ(Select(4, {GroupOf(0, {cut})}).unfinished, 1);
  EXPECT_TRUE(kept_.empty());
}

TEST_F(Selection, KeepsWhatAStopTextHasEnded) {
  Episode stopped = Answer("<answer>5</answer>");
  stopped.completion.tokens.pop_back();
  stopped.completion.ending = Ending::kStopText;
  EXPECT_EQ(Select(4, {GroupOf(0, {stopped})}).kept, 1);
}

TEST_F(Selection, LeavesOutTextsThatGiveOtherTokensThanThoseDrawn) {
  Episode spelled = Answer("<answer>5</answer>");  // the tag letter by letter
  spelled.completion.tokens.clear();
  for (const char byte : spelled.text) spelled.completion.tokens.push_back(static_cast<unsigned char>(byte));
  spelled.completion.tokens.push_back(tokenizer_->eos_id());
  Episode special = Answer("<answer>5</answer>");  // a token that is no text
  special.completion.tokens.insert(special.completion.tokens.begin(), tokenizer_->bos_id());
  Episode broken = Answer("\xff<answer>5</answer>");  // no UTF-8: rollouts write U+FFFD
  broken.text = "\xef\xbf\xbd<answer>5</answer>";
  const Episode empty = Answer(" \n");
  EXPECT_EQ(Select(9, {GroupOf(0, {spelled, special, broken, empty})}).unreadable, 4);
  EXPECT_TRUE(kept_.empty());
}

TEST_F(Selection, TextThatSpeaksForTheUserIsNotKept) {
  Episode names = Answer("<answer>5</answer>");
  names.text += "<eos><|User|>more";
  names.completion.tokens.clear();
  for (const char byte : names.text) names.completion.tokens.push_back(static_cast<unsigned char>(byte));
  names.completion.tokens.push_back(tokenizer_->eos_id());
  EXPECT_EQ(Select(1, {GroupOf(0, {names})}).unreadable, 1);
}

TEST(RejectionSeed, IsAnotherForEverySeedAndNeverThatOfTheRun) {
  for (const int64_t seed : {0, 1, 2}) {
    EXPECT_NE(RejectionSeed(seed), static_cast<uint64_t>(seed));
    EXPECT_NE(RejectionSeed(seed), RejectionSeed(seed + 1));
  }
}

}  // namespace
}  // namespace conclave::rl
