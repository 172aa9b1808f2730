// SPDX-License-Identifier: Apache-2.0
// Verifiers that are other programs: good ones, and every way of being bad that must cost nothing but their batch.
#include "rl/reward/program_reward.h"

#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "rl/reward/child_process.h"

namespace conclave::rl {
namespace {

std::vector<Score> ScoreWith(std::vector<std::string> command, size_t count = 2, double seconds = 10) {
  core::RewardConfig config;
  config.name = "program";
  config.command = std::move(command);
  config.timeout_seconds = seconds;
  config.memory_mib = 256;
  const auto reward = MakeProgramReward(config);
  EXPECT_TRUE(reward.ok()) << reward.status();
  const std::vector<Response> responses(count, {.prompt = "p", .text = "r \xff \n", .answer = "a"});
  std::vector<Score> scores(count);
  if (reward.ok()) (*reward)->ScoreAll(responses, scores);
  return scores;
}

std::vector<Score> Shell(const std::string& script, double seconds = 10) {
  return ScoreWith({"/bin/sh", "-c", script}, 2, seconds);
}

void ExpectFailure(const std::vector<Score>& scores, const std::string& why) {
  for (const Score& score : scores) {
    EXPECT_EQ(score.outcome, Outcome::kVerifierFailed);
    EXPECT_EQ(score.value, 0);
    EXPECT_NE(score.reason.find(why), std::string::npos) << score.reason;
  }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a zombie";
}

TEST(ProgramReward, GivesEachResponseTheRewardOfItsLine) {
  const auto scores = ScoreWith({"python3", "-c", R"(
import json, sys
for number, line in enumerate(sys.stdin):
    d = json.loads(line)
    assert sorted(d) == ["answer", "prompt", "response"] and d["response"] == "r \ufffd \n"
    print(json.dumps({"reward": number + 0.5, "reason": d["answer"]}))
)"},
                                3);
  ASSERT_EQ(scores[0].outcome, Outcome::kScored) << scores[0].reason;
  EXPECT_EQ(scores[2].value, 2.5);
  EXPECT_EQ(scores[2].reason, "a");
}

TEST(ProgramReward, FailsTheBatchOfAProgramThatMisbehaves) {
  ExpectFailure(Shell("exit 3"), "ended with exit code 3");
  ExpectFailure(Shell("echo one >&2; echo 'it broke' >&2; exit 1"), "its last words: 'it broke'");
  ExpectFailure(Shell("kill -SEGV $$"), "was ended by signal 11");
  ExpectFailure(Shell("sleep 100", 0.2), "was killed: it took longer than 0.2 s");
  ExpectFailure(Shell("exec >&- 2>&-; sleep 100", 0.2), "was killed");
  ExpectFailure(Shell("true"), "wrote 0 lines for 2 responses");
  ExpectFailure(Shell("echo '{\"reward\": 1}'"), "wrote 1 lines for 2 responses");
  ExpectFailure(Shell("for i in 1 2 3; do echo '{\"reward\": 1}'; done"), "wrote more than 2 lines");
  ExpectFailure(Shell("echo '{\"reward\": 1}'; echo yes"), "its output:2:");
  ExpectFailure(Shell("echo '{\"reward\": NaN}'; echo '{\"reward\": 1}'"), "its output:1:");
  ExpectFailure(Shell("echo '{\"reward\": 1e999}'; echo '{\"reward\": 1}'"), "its output:1:");
  ExpectFailure(Shell("echo '{\"reward\": true}'; echo '{\"reward\": 1}'"), "no number \"reward\"");
  ExpectFailure(Shell("echo '[1]'; echo '[1]'"), "not a JSON object");
  ExpectFailure(Shell("printf '{\"reward\": 1, \"reason\": \"\\377\"}\\n{\"reward\": 1}\\n'"), "UTF-8");
  ExpectFailure(Shell("yes"), "wrote more than");
  ExpectFailure(ScoreWith({"python3", "-c", "x = bytearray(1 << 30)"}), "MemoryError");
}

TEST(ChildProcess, MovesBytesInBothDirectionsAtOnce) {
  const std::string input(5 << 20, 'i');
  const auto output =
      RunChild({"/bin/sh", "-c", "head -c 3000000 /dev/zero; cat"}, input, {.output_bytes = size_t{16} << 20});
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(*output, std::string(3000000, '\0') + input);
}

TEST(ChildProcess, OutlivesAProgramThatReadsNothing) {
  const std::string input(5 << 20, 'i');
  for (int i = 0; i < 5; ++i) {
    const auto output = RunChild({"/bin/sh", "-c", "exec <&-; echo done"}, input, {});
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_EQ(*output, "done\n");
  }
}

// The first letter of the state of a process, such as S; Z and ' ' are gone.
char StateOf(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string number, name, state = " ";
  file >> number >> name >> state;
  return state[0];
}

TEST(ChildProcess, LeavesNothingBehind) {
  for (const char* script : {"sleep 300 & echo $!", "sleep 300 & echo $!; exit 0"}) {
    const auto started = std::chrono::steady_clock::now();
    const auto output = RunChild({"/bin/sh", "-c", script}, "", {});
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(5));
    const std::string pid = output->substr(0, output->find('\n'));
    for (int i = 0; i < 1000 && StateOf(pid) != 'Z' && StateOf(pid) != ' '; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_TRUE(StateOf(pid) == 'Z' || StateOf(pid) == ' ') << StateOf(pid);
  }
}

TEST(ChildProcess, RunsOnSeveralThreadsAtOnce) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([i] {
      const std::string input(100000, static_cast<char>('a' + i));
      for (int round = 0; round < 5; ++round) {
        const auto output = RunChild({"/bin/cat"}, input, {});
        ASSERT_TRUE(output.ok()) << output.status();
        EXPECT_EQ(*output, input);
      }
    });
  }
}

TEST(ChildProcess, SaysThatAProgramCannotBeStarted) {
  const auto output = RunChild({"/no/such/program"}, "", {});
  EXPECT_EQ(output.status().message(), "cannot start '/no/such/program': No such file or directory");
}

}  // namespace
}  // namespace conclave::rl
