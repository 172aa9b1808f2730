// SPDX-License-Identifier: Apache-2.0
// A step of reinforcement learning in numbers: fields of metrics.jsonl and scalars of TensorBoard, one list for both.
#pragma once

#include <string>
#include <vector>

#include "rl/evaluation.h"
#include "rl/grpo_metrics.h"

namespace conclave::launch {

struct Figure {
  std::string name;  // in metrics.jsonl
  double value = 0;
  const char* group = nullptr;  // of TensorBoard: "reward"; null: in metrics.jsonl alone
};

// `rewards`: names of the parts. Figures that a step lacks are NaN: null in JSON.
std::vector<Figure> RolloutFigures(const rl::GrpoMetrics& metrics, const std::vector<std::string>& rewards);
std::vector<Figure> EvaluationFigures(const rl::Evaluation& evaluation);

// "pass@1 0.412 +- 0.015, pass@8 0.730 +- 0.014, maj@8 0.501 +- 0.016, length 13.2, 256 problems x 8"
std::string EvaluationText(const rl::Evaluation& evaluation);

}  // namespace conclave::launch
