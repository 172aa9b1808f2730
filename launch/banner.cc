// SPDX-License-Identifier: Apache-2.0
#include "launch/banner.h"

#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "core/base/terminal.h"
#include "core/model/model_graph.h"
#include "launch/model_loading.h"
#include "launch/ranks.h"
#include "launch/text.h"
#include "rl/grpo_config.h"

namespace conclave::launch {
namespace {

constexpr size_t kLabelColumns = 11;

std::string ExpertsText(const core::ModelConfig& model) {
  if (model.n_routed_experts == 0) return "dense";
  return absl::StrFormat("%d routed experts, %d per token, %d shared", model.n_routed_experts,
                         model.num_experts_per_tok, model.n_shared_experts);
}

// The first line in the first field, the others below it.
void PrintBelow(std::string_view label, const std::string& lines) {
  for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    PrintLabelled(label, std::string(line));
    label = "";
  }
}

struct RankMemory {
  int64_t total = 0;
  std::string rows;  // a line for each use
};

RankMemory MemoryOf(const RunParts& parts) {
  RankMemory memory;
  const auto add = [&memory](const char* name, int64_t bytes) {
    memory.total += bytes;
    memory.rows += absl::StrFormat("%-28s %12s\n", name, BytesText(bytes));
  };
  for (const auto& row : parts.model->params().memory()) add(row.name, row.bytes);
  if (parts.trainer) add("activations, planned", parts.trainer->activation_bytes());
  if (parts.trainer && parts.trainer->replay_bytes() > 0) add("choices of experts", parts.trainer->replay_bytes());
  if (parts.teacher) add("teacher and its passes", parts.teacher->bytes());
  return memory;
}

// "3.2 MiB" and its rows; of several ranks that which takes most.
std::string MemoryText(const RunParts& parts, parallel::Job& job) {
  parallel::Comm& world = job.world();
  const RankMemory own = MemoryOf(parts);
  if (world.size() == 1) return BytesText(own.total) + "\n" + own.rows;
  const int64_t most = MaxOverRanks(job, own.total);
  const std::vector<std::string> rows = world.GatherTexts(own.total == most ? own.rows : "");
  const auto found = std::find_if(rows.begin(), rows.end(), [](const std::string& text) { return !text.empty(); });
  return absl::StrFormat("%s on rank %d, the most of all ranks\n%s", BytesText(most), found - rows.begin(), *found);
}

// "embedding, blocks 0-3"
std::string StageText(const core::StagePart& part) {
  std::vector<std::string> units;
  if (part.embedding) units.push_back("embedding");
  const int64_t first = part.first_block, last = first + part.num_blocks - 1;
  if (part.num_blocks == 1) units.push_back(absl::StrFormat("block %d", first));
  if (part.num_blocks > 1) units.push_back(absl::StrFormat("blocks %d-%d", first, last));
  if (part.loss) units.push_back("head and loss");
  return absl::StrJoin(units, ", ");
}

// Axes, hosts, the map of ranks, and what each pipeline rank holds.
std::string LayoutText(const parallel::Layout& layout, parallel::Job& job) {
  std::vector<std::string> stages;
  for (const int stage : layout.stages()) {
    stages.push_back(absl::StrFormat("stage %d: %s", stage, StageText(layout.stage_parts()[stage])));
  }
  const std::vector<std::string> of_ranks = job.world().GatherTexts(absl::StrJoin(stages, "; "));
  const parallel::Mesh& mesh = layout.mesh();
  std::string text = absl::StrCat(layout.Summary(), "\n", job.Describe(), "\n");
  if (mesh.shape().pipeline > 1 || mesh.shape().expert > 1) absl::StrAppend(&text, mesh.ToText());
  for (int rank = 0; mesh.shape().pipeline > 1 && rank < mesh.shape().pipeline; ++rank) {
    absl::StrAppend(&text, "pipeline ", rank, "  ", of_ranks[mesh.RankAt(rank, 0)], "\n");
  }
  return text;
}

std::string RewardsText(const core::Config& config) {
  std::vector<std::string> rewards;
  for (const core::RewardConfig& reward : config.reward) {
    rewards.push_back(absl::StrFormat("%g x %s", reward.weight, reward.name));
  }
  return absl::StrJoin(rewards, " + ");
}

// "latent: 1.3 KiB per token of a sample (expanded: 17 KiB, 13.0 times as much)"
std::string CacheText(const core::Config& config, const core::ModelConfig& model) {
  const auto bytes = [&](core::CacheKind kind) {
    return core::CacheWidth(model, kind) * model.num_hidden_layers *
           core::SizeOf(core::ComputeDType(config.ComputePrecision()));
  };
  const int64_t expanded = bytes(core::CacheKind::kExpanded), latent = bytes(core::CacheKind::kLatent);
  const bool small = CacheNamed(config.rollout.cache) == core::CacheKind::kLatent;
  std::string text =
      absl::StrFormat("%s: %s per token of a sample", config.rollout.cache, BytesText(small ? latent : expanded));
  if (!model.HasMla()) return text;
  const double factor = static_cast<double>(expanded) / static_cast<double>(latent);
  return text + (small ? absl::StrFormat(" (expanded: %s, %.1f times as much)", BytesText(expanded), factor)
                       : absl::StrFormat(" (latent: %s, %.1f times less)", BytesText(latent), factor));
}

void PrintSampling(const core::Config& config, const RunParts& parts) {
  const core::RejectConfig& reject = config.reject;
  PrintLabelled("data", parts.prompts->Description());
  PrintLabelled("samples",
                absl::StrFormat("%s (%s prompts x %d, %d prompts at a time), temperature %g, at most %d kept "
                                "of a prompt",
                                CountText(reject.prompts * reject.samples), CountText(reject.prompts), reject.samples,
                                config.rollout.prompts, config.rollout.temperature, reject.keep));
  PrintLabelled("", absl::StrFormat("seed %d, precision %s", config.train.seed, config.precision));
  PrintLabelled("reward", absl::StrFormat("%s; %s decides", RewardsText(config), config.reward[0].name));
}

// What a step is: the recurrent confusion of samples, updates and tokens.
void PrintRollouts(const core::Config& config, const RunParts& parts) {
  const core::RolloutConfig& rollout = config.rollout;
  const int64_t samples = rollout.prompts * rollout.group, updates = rl::UpdatesPerStep(config.grpo);
  const int64_t most = samples / config.grpo.minibatches * (config.data.max_prompt_tokens + rollout.max_tokens);
  PrintLabelled("data", parts.prompts->Description());
  PrintLabelled("step",
                absl::StrFormat("%s samples (%d prompts x %d), %d update%s of %s samples, at most %s tokens each",
                                CountText(samples), rollout.prompts, rollout.group, updates, updates == 1 ? "" : "s",
                                CountText(samples / config.grpo.minibatches), CountText(most)));
  if (!config.reward.empty()) PrintLabelled("reward", RewardsText(config));
  if (parts.teacher) return;
  PrintLabelled("loss", absl::StrFormat("%s: advantages over %s, mean by %s, clip %g/%g, kl %g", config.grpo.preset,
                                        config.grpo.advantage.baseline, config.grpo.aggregate, config.grpo.clip.low,
                                        config.grpo.clip.high, config.grpo.kl.coefficient));
}

void PrintTeacher(const core::Config& config, const RunParts& parts, const core::ModelGraph& student) {
  if (!parts.teacher) return PrintLabelled("teacher", config.teacher);
  const core::ModelGraph teacher = core::MakeModelGraph(parts.teacher->model_config, config.data.sequence_length);
  PrintLabelled("teacher", absl::StrFormat("%s: %s parameters%s", config.teacher, CountText(teacher.params()),
                                           student.params() > teacher.params() ? ", fewer than the student has" : ""));
  PrintLabelled("", absl::StrFormat("its passes take %.0f%% of the FLOPs of the student's training",
                                    100 * teacher.ForwardFlopsPerToken() / student.TrainFlopsPerToken()));
  PrintLabelled("loss", absl::StrFormat("%s at temperature %g, mean over the tokens of %s samples", config.distill.loss,
                                        config.distill.temperature,
                                        config.TrainsOnRollouts() ? "the student's own" : "the teacher's"));
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
                 const std::string& version, parallel::Job& job) {
  const std::string memory = MemoryText(parts, job);
  const std::string layout = job.world().size() > 1 ? LayoutText(*parts.layout, job) : "";
  if (!IsFirst(job)) return;
  const core::ModelConfig& model = parts.model_config;
  const core::ModelGraph graph = core::MakeModelGraph(model, config.data.sequence_length);
  const int64_t rows = config.batch.sequences, length = config.data.sequence_length;
  PrintLabelled("program", absl::StrFormat("conclave %s, %s", version, parts.device->Description()));
  PrintLabelled("model",
                absl::StrFormat("%s: %d blocks%s, hidden size %d, %s", model.model_type, model.num_hidden_layers,
                                model.num_nextn_predict_layers > 0 ? " and multi-token prediction" : "",
                                model.hidden_size, ExpertsText(model)));
  PrintLabelled("", absl::StrFormat("%s parameters, %s active per token", CountText(graph.params()),
                                    CountText(graph.active_params())));
  PrintBelow("layout", layout);
  PrintBelow("memory", memory);
  if (config.stage == "distill") PrintTeacher(config, parts, graph);
  if (config.TrainsOnRollouts()) {
    PrintRollouts(config, parts);
  } else if (config.stage == "reject") {
    PrintSampling(config, parts);
  } else {
    PrintLabelled("data", parts.loader->Description());
    PrintLabelled("batch", absl::StrFormat("%s tokens per step: %d rows of %d, %d at a time", CountText(rows * length),
                                           rows, length, parts.layout->executor_options().micro_rows));
  }
  if (config.DrawsResponses() || !parts.problems.empty()) PrintLabelled("cache", CacheText(config, model));
  if (!parts.problems.empty() && parts.trainer) {
    PrintLabelled("evaluation", absl::StrFormat("%s held-out problems of %s, %d samples each",
                                                CountText(static_cast<int64_t>(parts.problems.size())),
                                                parts.problems[0].source, config.eval.samples));
  }
  if (parts.trainer) {
    PrintLabelled("training", absl::StrFormat("%s steps, seed %d, precision %s", CountText(config.train.steps),
                                              config.train.seed, config.precision));
  }
  PrintLabelled("output", config.run.dir);
  PrintLabelled("start", start);
  PrintLine("");
}

}  // namespace conclave::launch
