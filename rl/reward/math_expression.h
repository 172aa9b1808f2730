// SPDX-License-Identifier: Apache-2.0
// A written answer as a tree. Nodes lie in one vector; children of a node are a linked list, so that a tree is two
// allocations. What it means is decided where it is compared (math_equal.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::rl {

enum class NodeKind {
  kNumber,       // text: digits, perhaps with separators of thousands
  kBasedNumber,  // text: digits; symbol: the base they are written in
  kSymbol,       // symbol: hash of its name
  kPi,
  kEuler,
  kImaginary,
  kInfinity,
  kEmptySet,
  kText,  // text: words
  kSum,
  kPlusMinus,  // one child, + in one reading of the tree and - in the other
  kMinusPlus,  // the other way round
  kNegate,
  kProduct,
  kQuotient,
  kPower,
  kRoot,      // radicand, index
  kFunction,  // text: its name; argument, for "log" perhaps the base
  kFactorial,
  kBinomial,
  kPercent,
  kDegree,
  kTuple,  // text: its brackets, "(]"
  kSet,
  kList,  // the same without brackets
  kMatrix,
  kRow,       // of a matrix
  kRelation,  // expression, kOperator, expression, kOperator, ...
  kOperator,  // text: "=", "<", "in"
  kUnion,     // text: "cup", "cap" or "setminus"
  kRatio,     // a : b
};

struct MathNode {
  NodeKind kind;
  int first = -1, next = -1;  // child, sibling
  std::string_view text = {};
  uint64_t symbol = 0;
};

struct MathExpression {
  std::vector<MathNode> nodes;
  int root = -1;
  std::string unit;              // in one spelling, "" if there is none
  bool ambiguous_comma = false;  // a comma was read as a separator of thousands

  const MathNode& operator[](int node) const { return nodes[static_cast<size_t>(node)]; }
  int Child(int node, int index) const {  // -1 if there is none
    int child = (*this)[node].first;
    while (index-- > 0 && child >= 0) child = (*this)[child].next;
    return child;
  }
  int NumChildren(int node) const {
    int count = 0;
    for (int child = (*this)[node].first; child >= 0; child = (*this)[child].next) ++count;
    return count;
  }
};

enum class PlusMinus { kBoth, kUpper, kLower };  // how +- is read; -+ is read the other way

// A part of a tree.
struct MathPart {
  const MathExpression* expression;
  int node;
  PlusMinus sign = PlusMinus::kBoth;

  const MathNode& operator*() const { return (*expression)[node]; }
  const MathNode* operator->() const { return &(*expression)[node]; }
  MathPart Child(int index) const { return {expression, expression->Child(node, index), sign}; }
  int NumChildren() const { return expression->NumChildren(node); }
};

}  // namespace conclave::rl
