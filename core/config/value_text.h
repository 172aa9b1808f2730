// SPDX-License-Identifier: Apache-2.0
// Single values as YAML text and back: numbers in their shortest form that reads back to the same bits, text in quotes
// where a YAML reader would take it for something else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace conclave::core {

std::string ValueText(bool value);
std::string ValueText(int64_t value);
std::string ValueText(double value);  // always with a point, so that YAML 1.1 readers see a number, too: 1.0e-08
std::string ValueText(const std::string& value);

template <class T>
std::string ValueText(const std::vector<T>& list) {
  std::string text = "[";
  for (const T& value : list) {
    if (text.size() > 1) text += ", ";
    text += ValueText(value);
  }
  return text + "]";
}

inline std::string ValueText(const std::optional<double>& value) { return value ? ValueText(*value) : "null"; }

// What a value of this type is called in messages and help: "a number".
template <class T>
constexpr const char* TypeText() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, int64_t>) return "a whole number";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, std::optional<double>>) return "a number or null";
  if constexpr (std::is_same_v<T, std::string>) return "text";
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return "a list of whole numbers";
  if constexpr (std::is_same_v<T, std::vector<double>>) return "a list of numbers";
  if constexpr (std::is_same_v<T, std::vector<std::string>>) return "a list of texts";
}

// "a.b", or "b" at the top.
inline std::string JoinKeys(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

// Reads a plain scalar; nullptr, or what is wrong with it: "is not a whole number".
const char* ParseValue(std::string_view text, bool& value);
const char* ParseValue(std::string_view text, int64_t& value);
const char* ParseValue(std::string_view text, double& value);

}  // namespace conclave::core
