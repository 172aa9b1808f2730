// SPDX-License-Identifier: Apache-2.0
// The tree of options as flat lists, made by walking VisitFields: every key with type, unit, default and help, and
// every value of one Config as text. Help pages, comparisons and suggestions are loops over these.
#pragma once

#include <string>
#include <vector>

#include "core/config/config.h"

namespace conclave::core {

struct KeyInfo {
  std::string path;  // "optim.lr"; entries of lists as "data.train.N.path"
  std::string type;  // "a number", "text", "a list of numbers", ...; "keys": a struct, "a list of entries": of structs
  std::string unit;  // "tokens", "path", ...; empty where there is none
  std::string default_text;  // as in YAML; empty for "keys"
  std::string help;
};

// All keys in the order of VisitFields, a struct before its own keys.
std::vector<KeyInfo> AllKeys();

struct KeyValue {
  std::string path;  // "data.train.0.path"
  std::string text;  // as in YAML
};

std::vector<KeyValue> AllValues(const Config& config);
std::vector<KeyValue> AllValues(const ModelConfig& config);  // paths without "model."

}  // namespace conclave::core
