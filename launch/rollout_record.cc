// SPDX-License-Identifier: Apache-2.0
#include "launch/rollout_record.h"

#include <cmath>

#include "absl/strings/str_format.h"

namespace conclave::launch {
namespace {

double Rate(int64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : std::nan(""); }

void AddSpread(const std::string& name, const rl::Spread& spread, const char* group, std::vector<Figure>& figures) {
  figures.push_back({name, spread.mean, group});
  figures.push_back({name + "_std", spread.std, group});
  figures.push_back({name + "_min", spread.min});
  figures.push_back({name + "_max", spread.max});
}

void AddPolicy(const optim::PolicyMetrics& policy, std::vector<Figure>& figures) {
  figures.push_back({"policy_loss", policy.loss, "policy"});
  figures.push_back({"clip_low", policy.clipped_low, "policy"});
  figures.push_back({"clip_high", policy.clipped_high, "policy"});
  figures.push_back({"dual_clip", policy.dual_clipped, "policy"});
  figures.push_back({"ratio", policy.ratio, "policy"});
  figures.push_back({"ratio_max", policy.largest_ratio, "policy"});
  figures.push_back({"kl", policy.kl, "policy"});
  figures.push_back({"reference_kl", policy.reference_kl, "policy"});
}

}  // namespace

std::vector<Figure> RolloutFigures(const rl::GrpoMetrics& m, const std::vector<std::string>& rewards) {
  std::vector<Figure> figures;
  AddSpread("reward", m.reward, "reward", figures);
  for (size_t i = 0; i < rewards.size(); ++i) figures.push_back({"reward/" + rewards[i], m.parts[i], "reward"});
  figures.push_back({"solved_all", m.solved_all, "reward"});
  figures.push_back({"solved_none", m.solved_none, "reward"});
  figures.push_back({"without_spread", m.without_spread, "reward"});
  AddSpread("length", m.length, "response", figures);
  figures.push_back({"prompt_length", m.prompt_length, "response"});
  figures.push_back({"truncated", m.truncated, "response"});
  figures.push_back({"entropy", m.entropy, "policy"});
  if (!m.update.teacher_kl) {
    AddSpread("advantage", m.advantage, "policy", figures);
    if (m.update.policy) AddPolicy(*m.update.policy, figures);
  }
  figures.push_back({"sampler_difference", m.sampler_difference.value_or(std::nan("")), "policy"});
  if (m.router_flips) figures.push_back({"router_flips", *m.router_flips, "policy"});
  figures.push_back({"cache_difference", m.cache_difference.value_or(std::nan("")), "policy"});
  figures.push_back({"groups", static_cast<double>(m.groups)});
  figures.push_back({"samples", static_cast<double>(m.samples)});
  figures.push_back({"counted", m.counted, "reward"});
  figures.push_back({"verifier_failed", static_cast<double>(m.verifier_failed), "reward"});
  figures.push_back({"rounds", static_cast<double>(m.rounds)});
  figures.push_back({"updates", static_cast<double>(m.updates)});
  figures.push_back({"age", m.age, "policy"});
  figures.push_back({"padding", m.padding, "speed"});
  figures.push_back({"generate_seconds", m.generate_seconds, "speed"});
  figures.push_back({"score_seconds", m.score_seconds, "speed"});
  figures.push_back({"update_seconds", m.update_seconds, "speed"});
  figures.push_back({"generated_tokens_per_second", Rate(m.tokens, m.generate_seconds), "speed"});
  figures.push_back({"trained_tokens_per_second", Rate(m.trained_tokens, m.update_seconds), "speed"});
  return figures;
}

std::vector<Figure> EvaluationFigures(const rl::Evaluation& e) {
  std::vector<Figure> figures;
  for (const rl::PassAt& pass : e.pass_at) {
    const std::string name = absl::StrFormat("pass_at_%d", pass.k);
    figures.push_back({name, pass.estimate.mean, "evaluation"});
    figures.push_back({name + "_stderr", pass.estimate.error});
  }
  figures.push_back({"majority", e.majority.mean, "evaluation"});
  figures.push_back({"majority_stderr", e.majority.error});
  figures.push_back({"evaluation_length", e.length.mean, "evaluation"});
  figures.push_back({"evaluation_truncated", e.truncated, "evaluation"});
  return figures;
}

std::string EvaluationText(const rl::Evaluation& e) {
  std::string text;
  const auto add = [&text](const std::string& name, const rl::Estimate& estimate) {
    text += absl::StrFormat("%s%s %.3f +- %.3f", text.empty() ? "" : ", ", name, estimate.mean, estimate.error);
  };
  if (!e.pass_at.empty()) add("pass@1", e.pass_at.front().estimate);
  if (e.samples > 1) {
    add(absl::StrFormat("pass@%d", e.samples), e.pass_at.back().estimate);
    add(absl::StrFormat("maj@%d", e.samples), e.majority);
  }
  return text + absl::StrFormat(", length %.1f, %d problems x %d", e.length.mean, e.prompts, e.samples);
}

}  // namespace conclave::launch
