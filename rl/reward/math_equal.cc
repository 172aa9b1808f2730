// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_equal.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"

#include "rl/reward/math_interval.h"
#include "rl/reward/math_names.h"
#include "rl/reward/math_value.h"

namespace conclave::rl {
namespace {

constexpr size_t kMaxSetItems = 64;
constexpr int64_t kScalarWork = 10;

Comparison Decide(bool equal) { return equal ? Comparison::kEqual : Comparison::kDifferent; }

bool IsCollection(NodeKind kind) { return kind == NodeKind::kSet || kind == NodeKind::kList; }

bool HasPlusMinus(MathPart part) {
  if (part->kind == NodeKind::kPlusMinus || part->kind == NodeKind::kMinusPlus) return true;
  for (int i = 0; i < part.NumChildren(); ++i) {
    if (HasPlusMinus(part.Child(i))) return true;
  }
  return false;
}

// f(x) is a product of variables as far as its form goes.
bool IsFunctionName(std::string_view letter) {
  return letter == "f" || letter == "g" || letter == "h" || letter == "P" || letter == "p";
}

// What stands for a value before "=": one variable, a function of variables, a point of them, a name in words.
bool IsName(MathPart part) {
  if (part->kind == NodeKind::kSymbol || part->kind == NodeKind::kText) return true;
  if (part->kind == NodeKind::kTuple || part->kind == NodeKind::kProduct) {
    for (int i = 0; i < part.NumChildren(); ++i) {
      if (part.Child(i)->kind != NodeKind::kSymbol) return false;
    }
    return part->kind == NodeKind::kTuple || IsFunctionName(part.Child(0)->text);
  }
  return false;
}

std::string_view SignOf(MathPart relation, int index) { return relation.Child(2 * index + 1)->text; }

// a < b: both sides may change places with the sign, but nothing is multiplied.
Comparison CompareInequalities(MathPart expected, MathPart answer) {
  const auto side = [](MathPart relation, bool greater) {
    const bool turned = SignOf(relation, 0).starts_with('>');
    return EvaluateAlgebraic(relation.Child(turned == greater ? 0 : 2));
  };
  if (SignOf(expected, 0).ends_with('=') != SignOf(answer, 0).ends_with('=')) return Comparison::kDifferent;
  const auto a = side(expected, false), b = side(expected, true), c = side(answer, false), d = side(answer, true);
  if (!a.ok() || !b.ok() || !c.ok() || !d.ok()) return Comparison::kUndecided;
  return Decide(AreEqual(Difference(*a, *b), Difference(*c, *d)));
}

void AddItem(MathPart part, std::vector<MathPart>& items) {
  if (part.sign != PlusMinus::kBoth || !HasPlusMinus(part)) return items.push_back(part);
  for (const PlusMinus sign : {PlusMinus::kUpper, PlusMinus::kLower}) {
    part.sign = sign;
    items.push_back(part);
  }
}

// The members of a list or set, both readings of +- apart; of everything else, itself.
std::vector<MathPart> ItemsOf(MathPart part) {
  std::vector<MathPart> items;
  if (IsCollection(part->kind)) {
    for (int i = 0; i < part.NumChildren(); ++i) AddItem(part.Child(i), items);
  } else {
    AddItem(part, items);
  }
  return items;
}

bool AnyRelation(const std::vector<MathPart>& items) {
  return std::any_of(items.begin(), items.end(), [](MathPart item) { return item->kind == NodeKind::kRelation; });
}

void AddUnionParts(MathPart part, std::vector<MathPart>& parts) {
  if (part->kind != NodeKind::kUnion || part->text != "cup") return parts.push_back(part);
  AddUnionParts(part.Child(0), parts);
  AddUnionParts(part.Child(1), parts);
}

// Objects that equal nothing of another kind.
bool IsObject(NodeKind kind) {
  switch (kind) {
    case NodeKind::kTuple:
    case NodeKind::kMatrix:
    case NodeKind::kRow:
    case NodeKind::kUnion:
    case NodeKind::kText:
    case NodeKind::kBasedNumber:
    case NodeKind::kEmptySet:
    case NodeKind::kRatio:
    case NodeKind::kOperator:
      return true;
    default:
      return false;
  }
}

// A choice, (C), is a variable where it stands alone.
bool IsChoice(MathPart expected, MathPart answer) {
  return expected->kind == NodeKind::kSymbol && answer->kind == NodeKind::kText &&
         absl::ascii_isupper(static_cast<unsigned char>(expected->text[0]));
}

// One comparison, with what it may still cost.
class Comparer {
 public:
  Comparison CompareParts(MathPart expected, MathPart answer);

 private:
  Comparison CompareScalars(MathPart expected, MathPart answer);
  Comparison CompareEquations(MathPart expected, MathPart answer);
  Comparison CompareRelations(MathPart expected, MathPart answer);
  Comparison CompareWithRelation(MathPart expected, MathPart answer);
  Comparison CompareSets(const std::vector<MathPart>& expected, std::vector<MathPart> answer);
  Comparison CompareChildren(MathPart expected, MathPart answer);
  Comparison CompareUnions(MathPart expected, MathPart answer);
  Comparison CompareObjects(MathPart expected, MathPart answer);
  std::optional<MathPart> ValueOf(MathPart relation);
  bool TellOfOneName(const std::vector<MathPart>& items);

  WorkBudget budget_;
  const std::function<Comparison(MathPart, MathPart)> scalars_ = [this](MathPart expected, MathPart answer) {
    return CompareScalars(expected, answer);
  };
};

Comparison Comparer::CompareScalars(MathPart expected, MathPart answer) {
  if ((budget_.left -= kScalarWork) < 0) return Comparison::kUndecided;
  const absl::StatusOr<AlgebraicValue> a = EvaluateAlgebraic(expected), b = EvaluateAlgebraic(answer);
  if (a.ok() && b.ok()) return Decide(AreEqual(*a, *b));
  if (absl::IsResourceExhausted(a.status()) || absl::IsResourceExhausted(b.status())) return Comparison::kUndecided;
  if (absl::IsInvalidArgument(a.status()) || absl::IsInvalidArgument(b.status())) return Comparison::kDifferent;
  return CompareNumerically(expected, answer, budget_);
}

// The value of "x = v", "x = a = v" and "x in v", if all that it says of v is the same.
std::optional<MathPart> Comparer::ValueOf(MathPart relation) {
  const int num_children = relation.NumChildren();
  if (!IsName(relation.Child(0))) return std::nullopt;
  const std::string_view sign = SignOf(relation, 0);
  if (sign != "=" && (sign != "in" || num_children != 3)) return std::nullopt;
  const MathPart value = relation.Child(num_children - 1);
  for (int i = 2; i + 2 < num_children; i += 2) {
    if (relation.Child(i + 1)->text != "=") return std::nullopt;
    if (CompareParts(value, relation.Child(i)) != Comparison::kEqual) return std::nullopt;
  }
  return value;
}

// a = b as a - b = 0, up to a factor.
Comparison Comparer::CompareEquations(MathPart expected, MathPart answer) {
  const MathPart sides[] = {expected.Child(0), expected.Child(2), answer.Child(0), answer.Child(2)};
  std::vector<AlgebraicValue> values;
  for (const MathPart& side : sides) {
    const absl::StatusOr<AlgebraicValue> value = EvaluateAlgebraic(side);
    if (absl::IsUnimplemented(value.status())) {
      return CompareEquationsNumerically(sides[0], sides[1], sides[2], sides[3], budget_);
    }
    if (!value.ok()) return Comparison::kUndecided;
    values.push_back(*value);
  }
  return Decide(AreProportional(Difference(values[0], values[1]), Difference(values[2], values[3])));
}

Comparison Comparer::CompareRelations(MathPart expected, MathPart answer) {
  const auto a = IntervalOf(expected), b = IntervalOf(answer);
  if (a && b) return CompareIntervals(*a, *b, scalars_);
  if (IsName(expected.Child(0)) && IsName(answer.Child(0))) {
    const std::optional<MathPart> value = ValueOf(expected), other = ValueOf(answer);
    if (value && other && CompareParts(expected.Child(0), answer.Child(0)) == Comparison::kEqual) {
      return CompareParts(*value, *other);
    }
  }
  if (expected.NumChildren() != 3 || answer.NumChildren() != 3) return Comparison::kUndecided;
  const std::string_view sign = SignOf(expected, 0), other = SignOf(answer, 0);
  const bool equations = sign == "=" || sign == "!=";
  if (equations != (other == "=" || other == "!=") || (equations && sign != other)) return Comparison::kDifferent;
  if (sign == "in" || other == "in") return Comparison::kDifferent;
  return equations ? CompareEquations(expected, answer) : CompareInequalities(expected, answer);
}

// One side says "x = v", "x in v" or x > a, the other v or the interval.
Comparison Comparer::CompareWithRelation(MathPart expected, MathPart answer) {
  const bool expected_is_relation = expected->kind == NodeKind::kRelation;
  const MathPart relation = expected_is_relation ? expected : answer, other = expected_is_relation ? answer : expected;
  if (const std::optional<MathPart> value = ValueOf(relation)) {
    return expected_is_relation ? CompareParts(*value, other) : CompareParts(other, *value);
  }
  const auto a = IntervalOf(relation), b = IntervalOf(other);
  return a && b ? CompareIntervals(*a, *b, scalars_) : Comparison::kDifferent;
}

// In "x = 1, x = -2" every item tells of x; of different variables the order would count.
bool Comparer::TellOfOneName(const std::vector<MathPart>& items) {
  const MathPart* first = nullptr;
  for (const MathPart& item : items) {
    if (item->kind != NodeKind::kRelation) continue;
    if (first == nullptr) first = &item;
    if (CompareParts(first->Child(0), item.Child(0)) != Comparison::kEqual) return false;
  }
  return true;
}

// Each expected item has an item of its own that is equal.
Comparison Comparer::CompareSets(const std::vector<MathPart>& expected, std::vector<MathPart> answer) {
  if (expected.size() != answer.size()) return Comparison::kDifferent;
  if (expected.size() > kMaxSetItems) return Comparison::kUndecided;
  if (AnyRelation(expected) != AnyRelation(answer) && !(TellOfOneName(expected) && TellOfOneName(answer))) {
    return Comparison::kDifferent;
  }
  bool undecided = false;
  for (const MathPart& item : expected) {
    const auto match = std::find_if(answer.begin(), answer.end(), [&](const MathPart& other) {
      const Comparison comparison = CompareParts(item, other);
      undecided |= comparison == Comparison::kUndecided;
      return comparison == Comparison::kEqual;
    });
    if (match == answer.end()) return undecided ? Comparison::kUndecided : Comparison::kDifferent;
    answer.erase(match);
  }
  return Comparison::kEqual;
}

Comparison Comparer::CompareChildren(MathPart expected, MathPart answer) {
  const int count = expected.NumChildren();
  if (count != answer.NumChildren()) return Comparison::kDifferent;
  for (int i = 0; i < count; ++i) {
    const Comparison comparison = CompareParts(expected.Child(i), answer.Child(i));
    if (comparison != Comparison::kEqual) return comparison;
  }
  return Comparison::kEqual;
}

Comparison Comparer::CompareUnions(MathPart expected, MathPart answer) {
  if (expected->text != answer->text) return Comparison::kDifferent;
  if (expected->text != "cup") return CompareChildren(expected, answer);
  std::vector<MathPart> a, b;
  AddUnionParts(expected, a);
  AddUnionParts(answer, b);
  return CompareSets(a, b);
}

Comparison Comparer::CompareObjects(MathPart expected, MathPart answer) {
  if (expected->kind != answer->kind) return Comparison::kDifferent;
  switch (expected->kind) {
    case NodeKind::kText:
      return Decide(IsSameText(expected->text, answer->text));
    case NodeKind::kBasedNumber:
      return Decide(expected->text == answer->text && expected->symbol == answer->symbol);
    case NodeKind::kEmptySet:
      return Comparison::kEqual;
    case NodeKind::kUnion:
      return CompareUnions(expected, answer);
    case NodeKind::kTuple:
      return expected->text == answer->text ? CompareChildren(expected, answer) : Comparison::kDifferent;
    default:
      return CompareChildren(expected, answer);
  }
}

Comparison Comparer::CompareParts(MathPart expected, MathPart answer) {
  const std::vector<MathPart> a = ItemsOf(expected), b = ItemsOf(answer);
  if (a.size() != 1 || b.size() != 1) return CompareSets(a, b);
  expected = a[0], answer = b[0];
  const bool is_relation = expected->kind == NodeKind::kRelation, other = answer->kind == NodeKind::kRelation;
  if (is_relation && other) return CompareRelations(expected, answer);
  if (is_relation || other) return CompareWithRelation(expected, answer);
  const int infinity = InfinityOf(expected), other_infinity = InfinityOf(answer);
  if (infinity != 0 || other_infinity != 0) return Decide(infinity == other_infinity);
  if (IsChoice(expected, answer)) return Decide(IsSameText(expected->text, answer->text));
  if (IsObject(expected->kind) || IsObject(answer->kind)) return CompareObjects(expected, answer);
  return CompareScalars(expected, answer);
}

std::string Folded(std::string_view text) {
  std::string folded;
  while (!text.empty()) {
    if (text[0] == '\\') {
      const std::string_view rest = text.substr(1);
      const size_t letters = std::find_if_not(rest.begin(), rest.end(), absl::ascii_isalpha) - rest.begin();
      if (IsFont(rest.substr(0, letters))) {
        text.remove_prefix(1 + letters);
        continue;
      }
    }
    if (std::string_view(" \t\n\r{}$~").find(text[0]) == std::string_view::npos) {
      folded += absl::ascii_tolower(static_cast<unsigned char>(text[0]));
    }
    text.remove_prefix(1);
  }
  if (folded.size() > 1 && folded.back() == '.') folded.pop_back();
  if (folded.size() == 3 && folded[0] == '(' && folded[2] == ')') return folded.substr(1, 1);
  return folded;
}

}  // namespace

bool IsSameText(std::string_view expected, std::string_view answer) { return Folded(expected) == Folded(answer); }

Comparison CompareMath(const MathExpression& expected, const MathExpression& answer) {
  if (!expected.unit.empty() && !answer.unit.empty() && expected.unit != answer.unit) return Comparison::kDifferent;
  const MathPart a{&expected, expected.root}, b{&answer, answer.root};
  Comparer comparer;
  const Comparison comparison = comparer.CompareParts(a, b);
  if (comparison == Comparison::kEqual || a->kind != NodeKind::kPercent || b->kind == NodeKind::kPercent) {
    return comparison;
  }
  return comparer.CompareParts(a.Child(0), b);  // 50 for 50 %
}

}  // namespace conclave::rl
