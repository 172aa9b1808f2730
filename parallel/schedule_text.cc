// SPDX-License-Identifier: Apache-2.0
// Schedules as text and back:
//   dualpipev for training: ranks 2, stages 4, micro-batches 8, placement v
//   0F0 0F1 0F2 3F0 ...
#include <array>
#include <charconv>
#include <cstdint>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "parallel/schedule.h"

namespace conclave::parallel {
namespace {

constexpr char kVerbs[] = "FBIW";  // in the order of Verb
constexpr std::array<std::string_view, 3> kPlacements = {"loop", "v", "mirror"};
constexpr std::array<std::string_view, 2> kPurposes = {"training", "validation"};

// Reads pieces of one line from left to right; the first that does not fit is the error, with its place.
class LineReader {
 public:
  LineReader(std::string_view line, int number) : line_(line), number_(number) {}

  bool AtEnd() const { return at_ == line_.size(); }

  bool Take(std::string_view piece) {
    if (!line_.substr(at_).starts_with(piece)) return false;
    at_ += piece.size();
    return true;
  }

  absl::Status Expect(std::string_view piece) {
    return Take(piece) ? absl::OkStatus() : Error(absl::StrFormat("expected '%s'", piece));
  }

  absl::StatusOr<int> Number() {
    int value = 0;
    const char* begin = line_.data() + at_;
    const auto [end, error] = std::from_chars(begin, line_.data() + line_.size(), value);
    if (error == std::errc::result_out_of_range) return Error("the number is too large");
    if (error != std::errc() || value < 0) return Error("expected a number");
    at_ += static_cast<size_t>(end - begin);
    return value;
  }

  template <class Choice, size_t kCount>
  absl::StatusOr<Choice> OneOf(const std::array<std::string_view, kCount>& words) {
    for (size_t i = 0; i < kCount; ++i) {
      if (Take(words[i])) return static_cast<Choice>(i);
    }
    std::string list;
    for (const std::string_view word : words) list += absl::StrFormat("%s%s", list.empty() ? "" : ", ", word);
    return Error("expected one of " + list);
  }

  std::string_view Word() {
    const size_t begin = at_;
    while (!AtEnd() && line_[at_] != ' ') ++at_;
    return line_.substr(begin, at_ - begin);
  }

  absl::StatusOr<Action> ReadAction() {
    Action action;
    ASSIGN_OR_RETURN(action.stage, Number());
    const std::string_view verbs = kVerbs;
    const size_t verb = AtEnd() ? std::string_view::npos : verbs.find(line_[at_]);
    if (verb == std::string_view::npos) return Error("expected one of the verbs F, B, I, W");
    action.verb = static_cast<Verb>(verb);
    ++at_;
    ASSIGN_OR_RETURN(action.micro, Number());
    return action;
  }

  absl::Status Error(std::string_view why) const {
    return absl::InvalidArgumentError(absl::StrFormat("line %d, column %d: %s", number_, at_ + 1, why));
  }

 private:
  std::string_view line_;
  int number_;
  size_t at_ = 0;
};

absl::StatusOr<Schedule> ReadShape(LineReader line) {
  Schedule schedule;
  schedule.name = std::string(line.Word());
  if (schedule.name.empty()) return line.Error("expected the name of a schedule");
  RETURN_IF_ERROR(line.Expect(" for "));
  ASSIGN_OR_RETURN(schedule.purpose, line.OneOf<Purpose>(kPurposes));
  RETURN_IF_ERROR(line.Expect(": ranks "));
  ASSIGN_OR_RETURN(schedule.num_ranks, line.Number());
  RETURN_IF_ERROR(line.Expect(", stages "));
  ASSIGN_OR_RETURN(schedule.num_stages, line.Number());
  RETURN_IF_ERROR(line.Expect(", micro-batches "));
  ASSIGN_OR_RETURN(schedule.num_micro, line.Number());
  RETURN_IF_ERROR(line.Expect(", placement "));
  ASSIGN_OR_RETURN(schedule.placement, line.OneOf<Placement>(kPlacements));
  if (!line.AtEnd()) return line.Error("the line should end here");
  return schedule;
}

absl::StatusOr<std::vector<Cell>> ReadCells(LineReader line) {
  std::vector<Cell> cells;
  while (!line.AtEnd()) {
    if (!cells.empty()) RETURN_IF_ERROR(line.Expect(" "));
    Cell cell;
    ASSIGN_OR_RETURN(cell.first, line.ReadAction());
    if (line.Take("&")) {
      ASSIGN_OR_RETURN(cell.second, line.ReadAction());
    }
    cells.push_back(cell);
  }
  return cells;
}

}  // namespace

std::string ActionText(const Action& action) {
  return absl::StrFormat("%d%c%d", action.stage, kVerbs[static_cast<size_t>(action.verb)], action.micro);
}

std::string CellText(const Cell& cell) {
  return ActionText(cell.first) + (cell.second ? "&" + ActionText(*cell.second) : "");
}

std::string ScheduleText(const Schedule& schedule) {
  std::string text =
      absl::StrFormat("%s for %s: ranks %d, stages %d, micro-batches %d, placement %s\n", schedule.name,
                      kPurposes[static_cast<size_t>(schedule.purpose)], schedule.num_ranks, schedule.num_stages,
                      schedule.num_micro, kPlacements[static_cast<size_t>(schedule.placement)]);
  for (const std::vector<Cell>& cells : schedule.cells) {
    for (size_t i = 0; i < cells.size(); ++i) text += (i > 0 ? " " : "") + CellText(cells[i]);
    text += '\n';
  }
  return text;
}

absl::StatusOr<Schedule> ParseSchedule(std::string_view text) {
  Schedule schedule;
  int number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrFormat("line %d has no end: the text is cut off", number));
    }
    const LineReader line(text.substr(0, end), number);
    text.remove_prefix(end + 1);
    if (number == 1) {
      ASSIGN_OR_RETURN(schedule, ReadShape(line));
    } else {
      ASSIGN_OR_RETURN(std::vector<Cell> cells, ReadCells(line));
      schedule.cells.push_back(std::move(cells));
    }
  }
  if (number != schedule.num_ranks + int64_t{1}) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d lines: a line for the shape and one for each of %d ranks are expected", number, schedule.num_ranks));
  }
  return schedule;
}

}  // namespace conclave::parallel
