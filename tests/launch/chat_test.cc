// SPDX-License-Identifier: Apache-2.0
// Conversations: what they say is what the whole rendered history gives, and keys do what a person expects.
#include <sys/resource.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "data/byte_tokenizer.h"
#include "tests/launch/terminal.h"
#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

using data::ByteTokenizer;

class ChatCommand : public ::testing::Test {
 protected:
  // A model that writes ASCII, and no end token soon.
  static void SetUpTestSuite() {
    run_ = new TinyRun;
    ASSERT_EQ(run_->Train({"train.steps=80", "train.checkpoint_every=0", "train.validate_every=0",
                           "model.max_position_embeddings=100000"})
                  .code,
              0);
  }
  static void TearDownTestSuite() { delete run_; }

  static std::vector<std::string> Arguments(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", run_->Dir(), "--temperature", "0", "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  static Outcome Piped(const std::string& input, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--chat"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    WriteFile(run_->folder() / "input", input);
    return Program(run_->folder(), Arguments(arguments), run_->folder() / "input").Wait();
  }

  // The tokens that follow `prompt`, computed from nothing.
  static std::vector<int32_t> After(const std::vector<int32_t>& prompt, const std::string& max_tokens) {
    std::string ids;
    for (const int32_t id : prompt) ids += (ids.empty() ? "" : ",") + std::to_string(id);
    const Outcome outcome = RunConclave(run_->folder(), Arguments({"--prompt-ids", ids, "--max-tokens", max_tokens}));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::vector<int32_t> tokens;
    std::istringstream text(outcome.out);
    for (std::string id; std::getline(text, id, ',');) tokens.push_back(std::stoi(id));
    return tokens;
  }

  static std::string Text(const std::vector<int32_t>& tokens) { return data::Decode(ByteTokenizer(), tokens); }

  static TinyRun* run_;
};

TinyRun* ChatCommand::run_ = nullptr;

void Append(std::vector<int32_t>& ids, const std::string& text) {
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
}

TEST_F(ChatCommand, EveryAnswerIsThatOfTheWholeRenderedHistory) {
  std::vector<int32_t> history = {ByteTokenizer::kBos};
  Append(history, "be brief");
  std::string expected;
  for (const std::string message : {"line 1", "line 22 of", "a"}) {
    history.push_back(ByteTokenizer::kUser);
    Append(history, message);
    history.push_back(ByteTokenizer::kAssistant);
    const std::vector<int32_t> answer = After(history, "25");
    ASSERT_FALSE(answer.empty());
    expected += Text(answer) + "\n";
    history.insert(history.end(), answer.begin(), answer.end());
    history.push_back(ByteTokenizer::kEos);
  }
  const Outcome chat = Piped("line 1\nline 22 of\r\n\na", {"--system", "be brief", "--max-tokens", "25"});
  EXPECT_EQ(chat.code, 0) << chat.err;
  EXPECT_EQ(chat.out, expected);
}

// CPU time of the children that have ended, in seconds.
double ChildSeconds() {
  struct rusage usage = {};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec) * 1e-6;
}

TEST_F(ChatCommand, LaterTurnsCostTheirNewTokensAlone) {
  const std::string first(6000, 'a');
  const std::vector<std::string> more = {"--context", "10000", "--max-tokens", "1"};
  double seconds[2];
  for (const int turns : {0, 1}) {
    const double before = ChildSeconds();
    std::string input = first + "\n";
    for (int i = 0; i < 20 * turns; ++i) input += "b\n";
    ASSERT_EQ(Piped(input, more).code, 0);
    seconds[turns] = ChildSeconds() - before;
  }
  EXPECT_LT(seconds[1], 3 * seconds[0]);  // five times and more without the cache
}

TEST_F(ChatCommand, ForgetsTheOldestTurnsWhenTheContextIsFullAndSaysSo) {
  const Outcome chat = Piped("line 1\nline 2\nline 3\nline 4\n", {"--context", "60", "--max-tokens", "20"});
  EXPECT_EQ(chat.code, 0) << chat.err;
  EXPECT_TRUE(Contains(chat.err, "the context of 60 tokens is full: forgot the oldest message and its answer"))
      << chat.err;
  // The last turn stands behind one other: both and the answer just fit.
  const Outcome alone = Piped("line 4\n", {"--context", "60", "--max-tokens", "20"});
  EXPECT_FALSE(Contains(alone.err, "forgot")) << alone.err;
}

TEST_F(ChatCommand, AMessageBeyondTheContextIsAnError) {
  const Outcome chat = Piped(std::string(70, 'a') + "\n", {"--context", "60"});
  EXPECT_EQ(chat.code, 1);
  EXPECT_TRUE(Contains(chat.err, "the message has 73 tokens")) << chat.err;
  EXPECT_EQ(Piped("a\n", {"--context", "200000"}).code, 2);
}

TEST_F(ChatCommand, StopsAtEveryEndTokenOfTheFolder) {
  const std::vector<int32_t> prompt = {ByteTokenizer::kBos, 'l', 'i', 'n', 'e'};
  const std::vector<int32_t> tokens = After(prompt, "12");
  ASSERT_EQ(tokens.size(), 12u);
  const std::vector<int32_t> begin(tokens.begin(), std::find(tokens.begin(), tokens.end(), tokens[5]));
  const TinyRun& run = *run_;
  const std::string path = run.Dir() + "/checkpoints/step_80/generation_config.json", before = ReadFile(path);
  const std::string id = std::to_string(tokens[5]);
  for (const std::string& value : {id, "[257, " + id + "]"}) {
    WriteFile(path, "{\"eos_token_id\": " + value + "}");
    EXPECT_EQ(After(prompt, "12"), begin) << value;
  }
  WriteFile(path, "{\"eos_token_id\": \"x\"}");
  const Outcome broken = RunConclave(run.folder(), Arguments({"--prompt", "a"}));
  EXPECT_EQ(broken.code, 1);
  EXPECT_TRUE(Contains(broken.err, "generation_config.json: eos_token_id")) << broken.err;
  WriteFile(path, before);
}

TEST_F(ChatCommand, CtrlCStopsAnAnswerAndTheConversationGoesOn) {
  Terminal chat(Arguments({"--chat", "--context", "100000", "--max-tokens", "99000"}));
  ASSERT_TRUE(chat.Await("> ")) << chat.shown();
  chat.Type("line 1\n");
  ASSERT_TRUE(chat.Await("line 1\r\n"));
  ASSERT_TRUE(chat.Await("te")) << chat.shown();  // from the answer: the text is about lines of a text
  chat.Type("\x03");
  ASSERT_TRUE(chat.Await("stopped")) << chat.shown();
  ASSERT_TRUE(chat.Await("> "));
  chat.Type("line 2\n");
  ASSERT_TRUE(chat.Await("line 2\r\n"));
  ASSERT_TRUE(chat.Await("te")) << chat.shown();
  chat.Type("\x03");
  ASSERT_TRUE(chat.Await("> ")) << chat.shown();
  chat.Type("/exit\n");
  EXPECT_EQ(chat.Wait(), 0);
}

TEST_F(ChatCommand, CommandsActAndUnknownOnesNameTheNearest) {
  Terminal chat(Arguments({"--chat", "--max-tokens", "3"}));
  ASSERT_TRUE(chat.Await("> ")) << chat.shown();
  chat.Type("/help\n");
  EXPECT_TRUE(chat.Await("/system TEXT"));
  chat.Type("/system be brief\n");
  EXPECT_TRUE(chat.Await("system message: be brief"));
  chat.Type("/rest\n");
  EXPECT_TRUE(chat.Await("did you mean /reset?"));
  chat.Type("/reset\n");
  EXPECT_TRUE(chat.Await("the conversation begins anew"));
  ASSERT_TRUE(chat.Await("> "));
  chat.Type("\x03");
  EXPECT_TRUE(chat.Await("Ctrl-D or /exit leaves")) << chat.shown();
  ASSERT_TRUE(chat.Await("> "));
  chat.Type("\x04");
  EXPECT_EQ(chat.Wait(), 0);
}

}  // namespace
}  // namespace conclave::launch
