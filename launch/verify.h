// SPDX-License-Identifier: Apache-2.0
// `conclave verify`: does this build compute a model as another program does? The reference holds inputs and any subset
// of logits, losses, chosen experts, gradients and optimizer steps (reference_file.h), or samples and policy losses
// (policy_reference.h); every name in it is computed and compared.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"

namespace conclave::launch {

struct VerifyOptions {
  std::string dir, reference;
  std::string dump;  // empty: none
  std::string precision = "f32";
  double tolerance = 0;  // 0: that of the precision
  bool all = false;
  int threads = 0;
};

absl::StatusOr<ExitCode> Verify(const VerifyOptions& options);

}  // namespace conclave::launch
