// SPDX-License-Identifier: Apache-2.0
#include "launch/banner.h"

#include <stdio.h>

#include "absl/strings/str_format.h"

#include "core/model/model_graph.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

std::string ExpertsText(const core::ModelConfig& model) {
  if (model.n_routed_experts == 0) return "dense";
  return absl::StrFormat("%d routed experts, %d per token, %d shared", model.n_routed_experts,
                         model.num_experts_per_tok, model.n_shared_experts);
}

void PrintMemory(const RunParts& parts) {
  int64_t total = parts.trainer->planned_memory().Total();
  for (const auto& row : parts.model->params().memory()) total += row.bytes;
  PrintLine(absl::StrFormat("memory     %s", BytesText(total)));
  for (const auto& row : parts.model->params().memory()) {
    PrintLine(absl::StrFormat("           %-28s %12s", row.name, BytesText(row.bytes)));
  }
  PrintLine(absl::StrFormat("           %-28s %12s", "activations, planned",
                            BytesText(parts.trainer->planned_memory().Total())));
}

}  // namespace

void PrintLine(std::string_view text) {
  fwrite(text.data(), 1, text.size(), stdout);
  fputc('\n', stdout);
  fflush(stdout);
}

void PrintBanner(const RunFolder& folder, const core::Config& config, const RunParts& parts,
                 const std::string& resumed_from) {
  const core::ModelConfig& model = parts.model_config;
  const core::ModelGraph graph = core::MakeModelGraph(model, config.data.sequence_length);
  const int64_t rows = config.batch.sequences, length = config.data.sequence_length;
  const int64_t micro = config.batch.micro_sequences > 0 ? config.batch.micro_sequences : rows;
  PrintLine(absl::StrFormat("model      %s: %d blocks%s, hidden size %d, %s", model.model_type, model.num_hidden_layers,
                            model.num_nextn_predict_layers > 0 ? " and multi-token prediction" : "", model.hidden_size,
                            ExpertsText(model)));
  PrintLine(absl::StrFormat("           %s parameters, %s active per token", CountText(graph.params()),
                            CountText(graph.active_params())));
  PrintMemory(parts);
  PrintLine(absl::StrFormat("data       %s", parts.loader->Description()));
  PrintLine(absl::StrFormat("batch      %s tokens per step: %d rows of %d, %d at a time", CountText(rows * length),
                            rows, length, micro));
  PrintLine(absl::StrFormat("training   %d steps, seed %d, precision %s, %s", config.train.steps, config.train.seed,
                            config.precision, parts.device->Description()));
  PrintLine(absl::StrFormat("output     %s", folder.dir()));
  PrintLine(resumed_from.empty() ? "start      new run" : "start      resuming from " + resumed_from);
  PrintLine("");
}

}  // namespace conclave::launch
