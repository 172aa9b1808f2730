// SPDX-License-Identifier: Apache-2.0
#include "launch/banner.h"

#include <stdio.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_format.h"

#include "core/base/terminal.h"
#include "core/model/model_graph.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

constexpr size_t kLabelColumns = 11;

std::string ExpertsText(const core::ModelConfig& model) {
  if (model.n_routed_experts == 0) return "dense";
  return absl::StrFormat("%d routed experts, %d per token, %d shared", model.n_routed_experts,
                         model.num_experts_per_tok, model.n_shared_experts);
}

void PrintMemory(const RunParts& parts) {
  const int64_t activations = parts.trainer->planned_memory().Total();
  int64_t total = activations;
  for (const auto& row : parts.model->params().memory()) total += row.bytes;
  PrintLabelled("memory", BytesText(total));
  for (const auto& row : parts.model->params().memory()) {
    PrintLabelled("", absl::StrFormat("%-28s %12s", row.name, BytesText(row.bytes)));
  }
  PrintLabelled("", absl::StrFormat("%-28s %12s", "activations, planned", BytesText(activations)));
}

}  // namespace

void PrintLine(std::string_view text) {
  fwrite(text.data(), 1, text.size(), stdout);
  fputc('\n', stdout);
  fflush(stdout);
}

void PrintLabelled(std::string_view label, std::string_view text) {
  const std::string blanks(kLabelColumns - std::min(label.size(), kLabelColumns), ' ');
  const std::string shown = label.empty() ? "" : core::Styled(STDOUT_FILENO, core::Style::kBold, label);
  PrintLine(absl::StrFormat("%s%s%s", shown, blanks, text));
}

void PrintBanner(const core::Config& config, const RunParts& parts, const std::string& start,
                 const std::string& version) {
  const core::ModelConfig& model = parts.model_config;
  const core::ModelGraph graph = core::MakeModelGraph(model, config.data.sequence_length);
  const int64_t rows = config.batch.sequences, length = config.data.sequence_length;
  const int64_t micro = config.batch.micro_sequences > 0 ? config.batch.micro_sequences : rows;
  PrintLabelled("program", absl::StrFormat("conclave %s, %s", version, parts.device->Description()));
  PrintLabelled("model",
                absl::StrFormat("%s: %d blocks%s, hidden size %d, %s", model.model_type, model.num_hidden_layers,
                                model.num_nextn_predict_layers > 0 ? " and multi-token prediction" : "",
                                model.hidden_size, ExpertsText(model)));
  PrintLabelled("", absl::StrFormat("%s parameters, %s active per token", CountText(graph.params()),
                                    CountText(graph.active_params())));
  PrintMemory(parts);
  PrintLabelled("data", parts.loader->Description());
  PrintLabelled("batch", absl::StrFormat("%s tokens per step: %d rows of %d, %d at a time", CountText(rows * length),
                                         rows, length, micro));
  PrintLabelled("training", absl::StrFormat("%s steps, seed %d, precision %s", CountText(config.train.steps),
                                            config.train.seed, config.precision));
  PrintLabelled("output", config.run.dir);
  PrintLabelled("start", start);
  PrintLine("");
}

}  // namespace conclave::launch
