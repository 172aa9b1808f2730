// SPDX-License-Identifier: Apache-2.0
// What a terminal gets and a pipe does not: styles, a redrawn line, and Ctrl-C with an answer at once.
#include "tests/launch/terminal.h"

#include <filesystem>
#include <sstream>
#include <string>

#include "gtest/gtest.h"

#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

constexpr std::string_view kErase = "\r\x1b[J";

std::string Without(std::string text, std::string_view part) {
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos;) text.erase(at, part.size());
  return text;
}

std::string ShownBy(const TinyRun& run, const Terminal::Options& options,
                    const std::vector<std::string>& overrides = {}) {
  Terminal terminal(run.TrainArguments(overrides), options);
  EXPECT_EQ(terminal.Wait(), 0) << terminal.shown();
  return terminal.shown();
}

TEST(OnATerminal, ProgressIsRedrawnAndLabelsAreBold) {
  const TinyRun run;
  const std::string shown = ShownBy(run, {.columns = 150});
  EXPECT_TRUE(Contains(shown, kErase)) << shown;
  EXPECT_TRUE(Contains(shown, "\x1b[1mmodel\x1b[0m")) << shown;
  EXPECT_TRUE(Contains(shown, "\x1b[2mnorm")) << shown;
}

TEST(OnATerminal, NoColorLeavesCursorControlAlone) {
  const TinyRun run;
  const std::string shown = ShownBy(run, {.environment = {{"NO_COLOR", "1"}}});
  EXPECT_TRUE(Contains(shown, kErase)) << shown;
  EXPECT_FALSE(Contains(Without(shown, kErase), "\x1b")) << shown;
  const TinyRun colored;
  EXPECT_TRUE(Contains(ShownBy(colored, {.environment = {{"NO_COLOR", ""}}}), "\x1b[1m"));  // empty counts as unset
}

TEST(OnATerminal, DumbOnesGetPlainLines) {
  const TinyRun run;
  EXPECT_FALSE(Contains(ShownBy(run, {.environment = {{"TERM", "dumb"}}}), "\x1b"));
}

TEST(OnATerminal, ErrorsAreRedAndWarningsYellow) {
  Terminal terminal({"train", "absent.yaml"});
  EXPECT_EQ(terminal.Wait(), 2);
  EXPECT_TRUE(Contains(terminal.shown(), "\x1b[31merror: \x1b[0m")) << terminal.shown();
  const TinyRun run;
  const std::string shown =
      ShownBy(run, {}, {"train.steps=4", "train.init_std=10", "optim.z_loss=1000", "optim.clip=0"});
  EXPECT_TRUE(Contains(shown, "\x1b[33mwarning: \x1b[0m")) << shown;
}

// The drawn line never reaches the last column: there it would wrap.
TEST(OnATerminal, ProgressFitsNarrowOnes) {
  const TinyRun run;
  std::istringstream shown(ShownBy(run, {.columns = 32, .environment = {{"NO_COLOR", "1"}}}));
  int lines = 0;
  for (std::string line; std::getline(shown, line);) {
    for (size_t erase; (erase = line.find(kErase)) != std::string::npos;) line.erase(0, erase + kErase.size());
    if (line.ends_with('\r')) line.pop_back();
    if (!line.starts_with("step ")) continue;
    EXPECT_LE(line.size(), 31u) << line;
    ++lines;
  }
  EXPECT_GE(lines, 5);  // a validation every five of the 24 steps, and the last
}

// A line of 79 columns covers three rows of 30: two of them lie above the cursor's.
TEST(OnATerminal, ALineThatWrappedAfterAResizeIsErasedWhole) {
  const TinyRun run;
  Terminal terminal(run.TrainArguments({"train.steps=1000000", "data.validation_fraction=0"}));
  ASSERT_TRUE(terminal.Await("ETA"));
  terminal.Resize(30);
  EXPECT_TRUE(terminal.Await("\x1b[2A\r\x1b[J")) << terminal.shown();
}

TEST(InAPipe, ThereIsNoEscapeAndNoCarriageReturn) {
  const TinyRun run;
  const Outcome outcome = run.Train({"train.init_std=10", "optim.z_loss=1000", "optim.clip=0"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_TRUE(Contains(outcome.err, "warning: "));
  for (const std::string& text : {outcome.out, outcome.err}) {
    EXPECT_EQ(text.find_first_of("\x1b\r"), std::string::npos) << text;
  }
}

TEST(CtrlC, OnceSaysWhatWillHappenSavesAndStops) {
  const TinyRun run;
  Terminal terminal(run.TrainArguments({"train.steps=1000000", "optim.schedule.name=constant"}));
  ASSERT_TRUE(terminal.Await("ETA"));
  terminal.Type("\x03");
  EXPECT_TRUE(terminal.Await("stopping after this step and saving; Ctrl-C again stops now")) << terminal.shown();
  EXPECT_EQ(terminal.Wait(), 130);
  EXPECT_TRUE(Contains(terminal.shown(), "the same command goes on from there")) << terminal.shown();
  EXPECT_TRUE(std::filesystem::exists(run.Dir() + "/checkpoints"));
}

TEST(CtrlC, TwiceStopsInTheMiddleOfAStep) {
  const TinyRun run;
  Terminal terminal(run.TrainArguments({"batch.sequences=500000", "data.validation_fraction=0"}));  // minutes
  ASSERT_TRUE(terminal.Await("new run"));
  terminal.Type("\x03");
  ASSERT_TRUE(terminal.Await("Ctrl-C again stops now"));
  terminal.Type("\x03");
  EXPECT_EQ(terminal.Wait(), 130) << terminal.shown();
  EXPECT_FALSE(Contains(terminal.shown(), "step 1/")) << terminal.shown();
  EXPECT_FALSE(std::filesystem::exists(run.Dir() + "/checkpoints"));
}

}  // namespace
}  // namespace conclave::launch
