// SPDX-License-Identifier: Apache-2.0
// The two macros for absl::Status: failures that a user, a file or a disk can cause travel up as values.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define RETURN_IF_ERROR(expression)                                         \
  do {                                                                      \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

#define STATUS_CONCAT_INNER_(a, b) a##b
#define STATUS_CONCAT_(a, b) STATUS_CONCAT_INNER_(a, b)
#define ASSIGN_OR_RETURN(target, expression) \
  ASSIGN_OR_RETURN_INNER_(STATUS_CONCAT_(status_or_, __LINE__), target, expression)
#define ASSIGN_OR_RETURN_INNER_(name, target, expression) \
  auto name = (expression);                               \
  if (!name.ok()) return name.status();                   \
  target = std::move(name).value()
