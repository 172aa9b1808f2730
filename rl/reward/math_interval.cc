// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_interval.h"

namespace conclave::rl {
namespace {

struct Bound {
  std::optional<MathPart> value;
  bool closed = false;
};

std::optional<Interval> IntervalInBrackets(MathPart tuple) {
  if (tuple.NumChildren() != 2) return std::nullopt;
  Interval interval{.low_closed = tuple->text[0] == '[', .high_closed = tuple->text[1] == ']'};
  const MathPart low = tuple.Child(0), high = tuple.Child(1);
  if (InfinityOf(low) > 0 || InfinityOf(high) < 0) return std::nullopt;
  if (InfinityOf(low) == 0) interval.low = low;
  if (InfinityOf(high) == 0) interval.high = high;
  // No interval holds infinity.
  if ((!interval.low && interval.low_closed) || (!interval.high && interval.high_closed)) return std::nullopt;
  return interval;
}

// "x < a" with its sign turned if x stands on the right.
bool AddBound(std::string_view sign, MathPart value, bool variable_is_left, Interval& interval) {
  if (sign[0] != '<' && sign[0] != '>') return false;
  const bool is_high = (sign[0] == '<') == variable_is_left, closed = sign.ends_with('=');
  std::optional<MathPart>& bound = is_high ? interval.high : interval.low;
  if (bound || value->kind == NodeKind::kSymbol) return false;
  const int infinity = InfinityOf(value);
  if (infinity != 0) return !closed && infinity == (is_high ? 1 : -1);
  bound = value;
  (is_high ? interval.high_closed : interval.low_closed) = closed;
  return true;
}

std::optional<Interval> IntervalOfInequality(MathPart relation) {
  const int num_children = relation.NumChildren();
  Interval interval;
  if (num_children == 3) {
    const bool left = relation.Child(0)->kind == NodeKind::kSymbol;
    const MathPart variable = relation.Child(left ? 0 : 2), value = relation.Child(left ? 2 : 0);
    if (variable->kind != NodeKind::kSymbol) return std::nullopt;
    interval.symbol = variable->symbol;
    if (!AddBound(relation.Child(1)->text, value, left, interval)) return std::nullopt;
    return interval;
  }
  if (num_children != 5 || relation.Child(2)->kind != NodeKind::kSymbol) return std::nullopt;
  interval.symbol = relation.Child(2)->symbol;
  if (!AddBound(relation.Child(1)->text, relation.Child(0), false, interval)) return std::nullopt;
  if (!AddBound(relation.Child(3)->text, relation.Child(4), true, interval)) return std::nullopt;
  return interval;
}

}  // namespace

int InfinityOf(MathPart part) {
  if (part->kind == NodeKind::kInfinity) return 1;
  if (part->kind == NodeKind::kNegate && part.Child(0)->kind == NodeKind::kInfinity) return -1;
  return 0;
}

std::optional<Interval> IntervalOf(MathPart part) {
  if (part->kind == NodeKind::kTuple) return IntervalInBrackets(part);
  if (part->kind == NodeKind::kRelation) return IntervalOfInequality(part);
  return std::nullopt;
}

Comparison CompareIntervals(const Interval& expected, const Interval& answer,
                            const std::function<Comparison(MathPart expected, MathPart answer)>& compare) {
  if (expected.symbol != 0 && answer.symbol != 0 && expected.symbol != answer.symbol) return Comparison::kDifferent;
  if (expected.low.has_value() != answer.low.has_value() || expected.high.has_value() != answer.high.has_value() ||
      expected.low_closed != answer.low_closed || expected.high_closed != answer.high_closed) {
    return Comparison::kDifferent;
  }
  if (expected.low) {
    const Comparison low = compare(*expected.low, *answer.low);
    if (low != Comparison::kEqual || !expected.high) return low;
  }
  return expected.high ? compare(*expected.high, *answer.high) : Comparison::kEqual;
}

}  // namespace conclave::rl
