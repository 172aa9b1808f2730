// SPDX-License-Identifier: Apache-2.0
#include "launch/inspect.h"

#include <stdio.h>

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/model_folder.h"
#include "core/model/model_graph.h"
#include "launch/model_loading.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

void PrintText(const std::string& text) { fwrite(text.data(), 1, text.size(), stdout); }

std::string ShapeText(const std::vector<int64_t>& shape) { return "[" + absl::StrJoin(shape, ", ") + "]"; }

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return elements;
}

void PrintModel(const core::ModelConfig& model) {
  const core::ModelGraph graph = core::MakeModelGraph(model, std::min<int64_t>(model.max_position_embeddings, 4096));
  PrintText(absl::StrFormat("model          %s, %d blocks", model.model_type, model.num_hidden_layers));
  if (model.num_nextn_predict_layers > 0)
    PrintText(absl::StrFormat(" + %d for multi-token prediction", model.num_nextn_predict_layers));
  PrintText(absl::StrFormat(", hidden size %d, vocabulary %s, at most %s positions\n", model.hidden_size,
                            CountText(model.vocab_size), CountText(model.max_position_embeddings)));
  if (model.n_routed_experts > 0) {
    PrintText(absl::StrFormat("experts        %d routed, %d per token, %d shared\n", model.n_routed_experts,
                              model.num_experts_per_tok, model.n_shared_experts));
  }
  PrintText(absl::StrFormat("parameters     %s, active per token %s\n", CountText(graph.params()),
                            CountText(graph.active_params())));
}

absl::Status PrintWeights(const core::ModelFolder& folder, bool each) {
  std::map<std::string, std::pair<int64_t, int64_t>> by_type;  // tensors, elements
  for (const std::string& name : folder.Names()) {
    ASSIGN_OR_RETURN(const std::string type, folder.StoredType(name));
    ASSIGN_OR_RETURN(const std::vector<int64_t> shape, folder.Shape(name));
    ++by_type[type].first;
    by_type[type].second += Elements(shape);
    if (each) PrintText(absl::StrFormat("  %-8s %-18s %s\n", type, ShapeText(shape), name));
  }
  for (const auto& [type, counts] : by_type) {
    PrintText(absl::StrFormat("weights        %s tensors of %s, %s values\n", CountText(counts.first), type,
                              CountText(counts.second)));
  }
  return absl::OkStatus();
}

absl::Status PrintState(const std::string& dir, bool each) {
  ASSIGN_OR_RETURN(const std::vector<core::StateTensor> tensors, core::ListState(dir));
  int64_t count = 0, bytes = 0;
  for (const core::StateTensor& tensor : tensors) {
    if (!tensor.name.starts_with("optimizer.")) continue;
    ++count;
    bytes += Elements(tensor.shape) * core::SizeOf(tensor.dtype);
    if (each)
      PrintText(absl::StrFormat("  %-8s %-18s %s\n", core::Name(tensor.dtype), ShapeText(tensor.shape), tensor.name));
  }
  PrintText(absl::StrFormat("optimizer      %s tensors, %s\n", CountText(count), BytesText(bytes)));
  return absl::OkStatus();
}

absl::Status PrintCheckpoint(const std::string& dir) {
  ASSIGN_OR_RETURN(const core::CheckpointMeta meta, core::ReadCheckpointMeta(dir));
  PrintText(absl::StrFormat("step           %s\ndata position  %s rows\nsample chain   %s\nseed           %d\n",
                            CountText(meta.step), CountText(meta.data_position), meta.sample_chain, meta.seed));
  PrintText(absl::StrFormat("made with      conclave %s, %s, precision %s\n", meta.program_version, meta.device,
                            meta.precision));
  for (const std::string& line : meta.history) PrintText(absl::StrFormat("history        %s\n", line));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ExitCode> Inspect(const InspectOptions& options) {
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(options.dir));
  if (options.hash) {
    ASSIGN_OR_RETURN(const std::string hash, core::StateHash(dir));
    PrintText(hash + "\n");
    return ExitCode::kDone;
  }
  ASSIGN_OR_RETURN(const FolderConfig config, ReadFolderConfig(dir));
  ASSIGN_OR_RETURN(const core::ModelFolder folder, core::ModelFolder::Open(dir));
  const bool ours = IsCheckpoint(dir);
  PrintText(
      absl::StrFormat("folder         %s%s\n", dir, ours ? "" : " (not a checkpoint of conclave: weights alone)"));
  PrintModel(config.model);
  RETURN_IF_ERROR(PrintWeights(folder, options.tensors));
  if (!ours) return ExitCode::kDone;
  RETURN_IF_ERROR(PrintState(dir, options.tensors));
  RETURN_IF_ERROR(PrintCheckpoint(dir));
  return ExitCode::kDone;
}

}  // namespace conclave::launch
