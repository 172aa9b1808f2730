// SPDX-License-Identifier: Apache-2.0
// A struct states its fields once, in VisitFields; readers, writers, overrides and help all walk the same list.
//
//   template <class V> void VisitFields(V& v) {
//     v.Field("steps", steps, "steps", "optimizer steps of the whole run");
//   }
//
// A visitor offers Field(name, value, unit, help) for every type it meets: bool, int64_t, double, std::optional<double>,
// std::string, std::vector of these, and nested structs (or std::vector of structs) that have VisitFields themselves. Choices are
// text. The unit says what a number counts ("tokens", "rows", "share") or that a text names a file or folder ("path");
// it is "" where there is none.
#pragma once

#include <concepts>

namespace conclave::core {

struct AnyFieldVisitor {
  template <class T>
  void Field(const char*, T&, const char*, const char*) {}
};

template <class T>
concept HasFields = requires(T& t, AnyFieldVisitor& v) {
  t.VisitFields(v);
};

}  // namespace conclave::core
