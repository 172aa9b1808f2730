// SPDX-License-Identifier: Apache-2.0
// `conclave inspect`: what a model folder or checkpoint holds.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"

namespace conclave::launch {

struct InspectOptions {
  std::string dir;
  bool hash = false;     // print the state's hash and nothing else
  bool tensors = false;  // list every tensor
};

absl::StatusOr<ExitCode> Inspect(const InspectOptions& options);

}  // namespace conclave::launch
