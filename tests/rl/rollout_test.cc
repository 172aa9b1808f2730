// SPDX-License-Identifier: Apache-2.0
// Host data around a rollout: which sample is decoded when, where a response ends, how episodes are packed, written and
// read.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/rng.h"
#include "data/byte_tokenizer.h"
#include "rl/ending.h"
#include "rl/rollout_packing.h"
#include "rl/rollout_store.h"
#include "rl/rollout_text.h"
#include "rl/slot_queue.h"

namespace conclave::rl {
namespace {

uint32_t Random(uint64_t a, uint64_t b) { return core::Philox(17, a, b)[0]; }

// ---- SlotQueue ----------------------------------------------------------------------------------------------------

// Decodes with slots that hold (draw, tokens so far) as caches would, and checks that each call sees its own.
class FakeDecoder {
 public:
  FakeDecoder(std::vector<Request> requests, int64_t slots)
      : slots_(slots + 8), queue_(std::move(requests), slots, SlotQueue::Filters::kNone, Ends) {}

  // A sample of draw d has (7 d + 3 s) mod 11 + 1 tokens.
  static bool Ends(const Completion& completion, Ending& ending) {
    ending = Ending::kEndToken;
    return static_cast<int64_t>(completion.tokens.size()) == (7 * completion.draw + 3 * completion.sample) % 11 + 1;
  }

  std::vector<Completion> Run(int64_t decode_slots) {
    while (!queue_.Done()) {
      std::vector<Drawn> drawn;
      if (const int64_t longest = queue_.NextPromptLength(); longest > 0) {
        int64_t slot = decode_slots;
        for (const Request& request : queue_.TakePrompts(8, longest)) {
          slots_[slot++] = {request.draw, static_cast<int64_t>(request.prompt.size())};
          for (int64_t i = 0; i < request.samples; ++i) drawn.push_back({static_cast<int32_t>(request.draw)});
        }
        queue_.AddFirst(drawn);
      } else {
        EXPECT_LE(queue_.num_active(), decode_slots);
        most_ = std::max(most_, queue_.num_active());
        for (int64_t slot = 0; slot < queue_.num_active(); ++slot) {
          const Completion& completion = queue_.CompletionIn(slot);
          EXPECT_EQ(slots_[slot].draw, completion.draw);
          EXPECT_EQ(slots_[slot].length, queue_.PositionIn(slot));
          ++slots_[slot].length;
          drawn.push_back({static_cast<int32_t>(completion.draw)});
        }
        queue_.AddNext(drawn);
      }
      for (const SlotMove& move : queue_.moves()) {
        slots_[move.to] = slots_[move.from];
        EXPECT_EQ(slots_[move.to].length, move.length);
      }
    }
    return queue_.TakeCompletions();
  }
  int64_t most() const { return most_; }

 private:
  struct Slot {
    int64_t draw = -1, length = 0;
  };
  std::vector<Slot> slots_;
  SlotQueue queue_;
  int64_t most_ = 0;
};

TEST(SlotQueue, DecodesEachSampleOnceInASlotOfItsOwn) {
  std::vector<Request> requests;
  int64_t samples = 0;
  for (int64_t draw = 0; draw < 40; ++draw) {
    requests.push_back({.draw = draw,
                        .first_sample = draw % 3,
                        .samples = draw % 5,
                        .prompt = std::vector<int32_t>(1 + draw * 7 % 13, 1)});
    samples += draw % 5;
  }
  for (const int64_t slots : {1, 2, 7, 64, 1000}) {
    FakeDecoder decoder(requests, slots);
    const std::vector<Completion> completions = decoder.Run(slots);
    ASSERT_EQ(static_cast<int64_t>(completions.size()), samples);
    size_t next = 0;
    for (const Request& request : requests) {
      for (int64_t i = 0; i < request.samples; ++i) {
        const Completion& completion = completions[next++];
        EXPECT_EQ(completion.draw, request.draw);
        EXPECT_EQ(completion.sample, request.first_sample + i);
        EXPECT_EQ(static_cast<int64_t>(completion.tokens.size()),
                  (7 * completion.draw + 3 * completion.sample) % 11 + 1);
        EXPECT_EQ(completion.log_probs.size(), completion.tokens.size());
      }
    }
    if (slots <= 7) {
      EXPECT_EQ(decoder.most(), slots);  // free slots are taken at once
    }
  }
}

// ---- EndingRule ---------------------------------------------------------------------------------------------------

Ending EndOf(const EndingRule& rule, const std::vector<int32_t>& tokens, size_t& length) {
  Completion completion;
  Ending ending = Ending::kMaxTokens;
  for (const int32_t token : tokens) {
    completion.tokens.push_back(token);
    if (rule(completion, ending)) break;
  }
  length = completion.tokens.size();
  return ending;
}

TEST(EndingRule, EndsAtTheFirstOfItsReasons) {
  const data::ByteTokenizer tokenizer;
  std::vector<int32_t> tokens;
  tokenizer.Encode("ab, Question: c", data::Parse::kText, tokens);
  tokens.push_back(data::ByteTokenizer::kEos);
  size_t length = 0;
  EXPECT_EQ(EndOf({.end_tokens = {257}, .max_tokens = 100}, tokens, length), Ending::kEndToken);
  EXPECT_EQ(length, tokens.size());
  EXPECT_EQ(EndOf({.max_tokens = 4}, tokens, length), Ending::kMaxTokens);
  EXPECT_EQ(length, 4u);
  const EndingRule stops{.end_tokens = {257}, .stop = {"Question:", "zz"}, .max_tokens = 100, .tokenizer = &tokenizer};
  EXPECT_EQ(EndOf(stops, tokens, length), Ending::kStopText);
  EXPECT_EQ(length, std::string("ab, Question:").size());
  // Within a token that goes on behind the text, and over the border of two.
  const EndingRule tag{.stop = {"wer></"}, .max_tokens = 100, .tokenizer = &tokenizer};
  EXPECT_EQ(EndOf(tag, {263, 262}, length), Ending::kStopText);
  EXPECT_EQ(length, 2u);
  EXPECT_EQ(EndOf(tag, {263, 120, 262}, length), Ending::kMaxTokens);
}

// ---- Packing ------------------------------------------------------------------------------------------------------

std::vector<Group> RandomGroups(int64_t count, int64_t samples, int64_t longest) {
  std::vector<Group> groups;
  for (int64_t g = 0; g < count; ++g) {
    Group& group = groups.emplace_back(Group{.draw = g});
    group.prompt.assign(1 + Random(g, 0) % (longest / 2), static_cast<int32_t>(100 + g));
    for (int64_t s = 0; s < samples; ++s) {
      Episode& episode = group.episodes.emplace_back();
      episode.completion = {.draw = g, .sample = s};
      const int64_t tokens = 1 + Random(g, 1 + s) % (longest / 2);
      for (int64_t t = 0; t < tokens; ++t) {
        episode.completion.tokens.push_back(static_cast<int32_t>(Random(g * 31 + s, 100 + t) % 90));
        episode.completion.log_probs.push_back(-static_cast<float>(t + 1));
      }
      episode.advantage = static_cast<double>(s) - 1;
    }
  }
  return groups;
}

TEST(Packing, HoldsEveryCountedEpisodeOnce) {
  constexpr int64_t kLength = 40;
  std::vector<Group> groups = RandomGroups(13, 4, 30);
  groups[3].kept = false;
  groups[5].episodes[2].counted = false;
  PackedBatch packed = PackEpisodes(groups, kLength);
  ASSERT_EQ(packed.episodes.size(), 12u * 4 - 1);
  EXPECT_LE(packed.batch.rows, MostRows(12 * 4 - 1, 29, kLength));
  std::set<int64_t> taken;
  int64_t labels = 0;
  for (const PackedEpisode& place : packed.episodes) {
    const std::vector<int32_t>& tokens = place.episode->completion.tokens;
    const auto prompt = static_cast<int64_t>(place.group->prompt.size());
    const int64_t begin = place.first_label - prompt + 1, end = place.first_label + static_cast<int64_t>(tokens.size());
    EXPECT_EQ(begin / kLength, (end - 1) / kLength) << "a document lies in one row";
    for (int64_t i = begin; i < end; ++i) {
      EXPECT_TRUE(taken.insert(i).second);
      EXPECT_EQ(packed.batch.positions[i], i - begin);
      const int64_t t = i - place.first_label;
      EXPECT_EQ(packed.batch.labels[i], t < 0 ? -1 : tokens[t]);
      EXPECT_EQ(packed.batch.tokens[i], t < 0    ? place.group->prompt[i - begin]
                                        : t == 0 ? place.group->prompt.back()
                                                 : tokens[t - 1]);
      labels += t >= 0;
    }
  }
  EXPECT_EQ(packed.tokens, static_cast<int64_t>(taken.size()));
  EXPECT_EQ(packed.batch.num_labels, labels);
  for (int64_t i = 0; i < packed.batch.rows * kLength; ++i) {
    if (taken.contains(i)) continue;
    EXPECT_EQ(packed.batch.positions[i], -1);
    EXPECT_EQ(packed.batch.labels[i], -1);
  }
}

TEST(Packing, NeedsNoMoreRowsThanItSays) {
  for (uint64_t trial = 0; trial < 200; ++trial) {
    const int64_t longest = 2 + Random(trial, 5) % 30, length = longest + Random(trial, 6) % 60;
    std::vector<Group> groups = RandomGroups(1 + Random(trial, 7) % 20, 1 + Random(trial, 8) % 4, longest);
    const PackedBatch packed = PackEpisodes(groups, length);
    EXPECT_LE(packed.batch.rows, MostRows(packed.episodes.size(), longest, length));
  }
}

double SumOfWeights(const core::GrpoConfig& config, std::vector<Group> groups) {
  PackedBatch packed = PackEpisodes(groups, 40);
  FillPolicy(config, 20, core::PolicyPass::kOnPolicy, packed);
  double sum = 0;
  for (const float weight : packed.batch.policy->weights) sum += weight;
  return sum;
}

TEST(Packing, WeighsTokensByTheWholeBatch) {
  const std::vector<Group> groups = RandomGroups(6, 3, 30);
  double tokens = 0;
  for (const Group& group : groups) {
    for (const Episode& episode : group.episodes) tokens += static_cast<double>(episode.completion.tokens.size());
  }
  core::GrpoConfig config;
  EXPECT_NEAR(SumOfWeights(config, groups), 1, 1e-6);  // sequence
  config.aggregate = "token";
  EXPECT_NEAR(SumOfWeights(config, groups), 1, 1e-6);
  config.aggregate = "constant";
  EXPECT_NEAR(SumOfWeights(config, groups), tokens / (18 * 20), 1e-6);
}

TEST(Packing, GivesTheLossWhatItReads) {
  std::vector<Group> groups = RandomGroups(4, 2, 20);
  Episode& special = groups[1].episodes[1];
  special.old_log_probs.assign(special.completion.tokens.size(), -9);
  special.token_advantages.assign(special.completion.tokens.size(), 0.25f);
  special.importance.assign(special.completion.tokens.size(), 0.5f);
  core::GrpoConfig config;
  config.aggregate = "token";
  PackedBatch packed = PackEpisodes(groups, 24);
  FillPolicy(config, 20, core::PolicyPass::kOffPolicy, packed);
  const core::PolicyTargets& policy = *packed.batch.policy;
  EXPECT_TRUE(policy.reference_log_probs.empty());
  const float weight = static_cast<float>(1.0 / static_cast<double>(packed.batch.num_labels));
  for (size_t i = 0; i < packed.episodes.size(); ++i) {
    const Episode& episode = *packed.episodes[i].episode;
    for (size_t t = 0; t < episode.completion.tokens.size(); ++t) {
      const size_t place = packed.episodes[i].first_label + t;
      const bool is_special = &episode == &special;
      EXPECT_EQ(policy.sequences[place], static_cast<int32_t>(i));
      EXPECT_EQ(policy.old_log_probs[place], is_special ? -9 : episode.completion.log_probs[t]);
      EXPECT_EQ(policy.advantages[place], is_special ? 0.25f : static_cast<float>(episode.advantage));
      EXPECT_FLOAT_EQ(policy.weights[place], is_special ? weight / 2 : weight);
    }
  }
}

// ---- Text and store -----------------------------------------------------------------------------------------------

TEST(RolloutText, ReadsBackToTheBit) {
  const std::vector<std::string> names = {"math", "format"};
  std::vector<Group> groups = RandomGroups(3, 2, 20);
  for (Group& group : groups) {
    group.answer = "a \"b\"\n\xC3\xA4";
    for (Episode& episode : group.episodes) {
      episode.parts = {1.0 / 3, -0.1};
      episode.failed = {false, true};
      episode.reward = 0.1 + 0.2;
      episode.reason = "why";
      episode.version = 7;
      episode.completion.ending = Ending::kStopText;
      episode.completion.entropy = 1.0 / 7;
      episode.completion.log_probs.back() = -0.1f;
      episode.completion.filtered_log_probs = episode.completion.log_probs;
      episode.text = "<think>\xC3\xA4</think>";
    }
  }
  groups[2].kept = false;
  groups[1].episodes[0].counted = false;
  const std::string lines = WriteGroups(groups, names);
  const auto again = ReadGroups(lines, names, "a");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(WriteGroups(*again, names), lines);
  ASSERT_EQ(again->size(), 3u);
  const Completion &a = groups[1].episodes[1].completion, &b = (*again)[1].episodes[1].completion;
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(std::memcmp(a.log_probs.data(), b.log_probs.data(), a.log_probs.size() * 4), 0);
  EXPECT_EQ(b.ending, Ending::kStopText);
  EXPECT_EQ((*again)[1].episodes[1].reward, 0.1 + 0.2);
  EXPECT_FALSE((*again)[2].kept);
  EXPECT_FALSE((*again)[1].episodes[0].counted);
}

TEST(RolloutText, NamesTheBrokenLine) {
  const std::vector<std::string> names = {"math"};
  std::vector<Group> groups = RandomGroups(1, 2, 20);
  for (Episode& episode : groups[0].episodes) {
    episode.parts = {1};
    episode.failed = {false};
  }
  std::string lines = WriteGroups(groups, names);
  const auto message = [&](const std::string& text) {
    return std::string(ReadGroups(text, names, "f").status().message());
  };
  EXPECT_TRUE(message("{\"draw\": 1}\n").starts_with("f:1: is not a line of a rollout: "));
  EXPECT_TRUE(message(lines + "{").starts_with("f:3:"));
  lines.replace(lines.find("math"), 4, "maht");
  EXPECT_TRUE(message(lines).starts_with("f:1: is not a line of a rollout: "));
}

TEST(RolloutStore, GivesBackWhatItsOwnKeyWrote) {
  const std::string dir = ::testing::TempDir() + "/rollout_store_test";
  std::filesystem::remove_all(dir);
  const RolloutStore store(dir, "k1"), other(dir, "k2");
  ASSERT_TRUE(store.Load(1).ok());
  EXPECT_FALSE(store.Load(1)->has_value());
  ASSERT_TRUE(store.Save(1, "a\nb\n").ok());
  EXPECT_EQ(store.Load(1)->value(), "a\nb\n");
  EXPECT_FALSE(other.Load(1)->has_value());
  EXPECT_EQ(*RolloutStore::LoadAny(store.PathOf(1)), "a\nb\n");
  ASSERT_TRUE(other.Save(1, "c\n").ok());
  EXPECT_FALSE(store.Load(1)->has_value());
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace conclave::rl
