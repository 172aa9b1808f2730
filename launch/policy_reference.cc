// SPDX-License-Identifier: Apache-2.0
#include "launch/policy_reference.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"

namespace conclave::launch {
namespace {

constexpr int64_t kMaxPolicyTokens = 1 << 22;

class Reader {
 public:
  Reader(PolicyReference& reference, int64_t vocab_size) : reference_(reference), vocab_size_(vocab_size) {}

  absl::Status Read() {
    ASSIGN_OR_RETURN(prompts_, Ids("prompt_ids"));
    ASSIGN_OR_RETURN(completions_, Ids("completion_ids"));
    if (completions_.shape[0] != prompts_.shape[0] || completions_.shape[1] == 0 || prompts_.shape[1] == 0) {
      return Bad("prompt_ids and completion_ids must have as many samples, and a token at least");
    }
    ASSIGN_OR_RETURN(mask_, Ids("completion_mask"));
    if (mask_.shape != completions_.shape) return Bad("completion_mask and completion_ids differ in shape");
    RETURN_IF_ERROR(FillBatch());
    RETURN_IF_ERROR(FillTargets());
    for (const auto& [key, text] : reference_.file.metadata()) {
      if (key.starts_with("rl.")) RETURN_IF_ERROR(ReadVariant(key, text));
    }
    return reference_.variants.empty() ? Bad("its metadata describes no rl.<variant>") : absl::OkStatus();
  }

 private:
  struct IntegerTable {
    std::vector<int64_t> shape, values;
  };

  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s", reference_.file.path(), what));
  }

  absl::StatusOr<IntegerTable> Ids(const char* name) const {
    const core::SafetensorsEntry* entry = reference_.file.Find(name);
    if (!entry) return Bad(absl::StrFormat("it has no %s", name));
    const int64_t count = (entry->end - entry->begin) / 8;
    if (entry->dtype_name != "I64" || entry->shape.size() != 2 || count == 0 || count > kMaxPolicyTokens) {
      return Bad(absl::StrFormat("%s is not int64 [samples, tokens] of 1 to %d values", name, kMaxPolicyTokens));
    }
    IntegerTable table{.shape = entry->shape, .values = std::vector<int64_t>(static_cast<size_t>(count))};
    RETURN_IF_ERROR(reference_.file.ReadBytes(*entry, 0, count * 8, table.values.data()));
    for (const int64_t id : table.values) {
      if (id < 0 || id >= vocab_size_) {
        return Bad(absl::StrFormat("%s has %d, the vocabulary is %d", name, id, vocab_size_));
      }
    }
    return table;
  }

  absl::StatusOr<std::vector<float>> Floats(const char* name, const std::vector<int64_t>& shape) const {
    const core::SafetensorsEntry* entry = reference_.file.Find(name);
    if (!entry) return Bad(absl::StrFormat("it has no %s", name));
    if (entry->dtype_name != "F32" || entry->shape != shape)
      return Bad(absl::StrFormat("%s is not float32 [%s]", name, absl::StrJoin(shape, ", ")));
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    std::vector<float> values(static_cast<size_t>(count));
    RETURN_IF_ERROR(reference_.file.ReadFloats(*entry, 0, count, values.data()));
    return values;
  }

  int64_t samples() const { return prompts_.shape[0]; }
  int64_t prompt() const { return prompts_.shape[1]; }
  int64_t tokens() const { return completions_.shape[1]; }
  int64_t length() const { return prompt() + tokens(); }
  // The place in the batch whose label is token t of a completion.
  size_t Place(int64_t sample, int64_t t) const { return static_cast<size_t>(sample * length() + prompt() + t - 1); }
  int64_t AnswerLength(int64_t sample) const { return answer_lengths_[static_cast<size_t>(sample)]; }

  // A row is prompt and answer; what the mask hides is padding.
  absl::Status FillBatch() {
    core::Batch& batch = reference_.batch;
    batch = {.rows = samples(), .length = length()};
    const size_t size = static_cast<size_t>(samples() * length());
    batch.tokens.assign(size, 0);
    batch.positions.assign(size, -1);
    batch.labels.assign(size, -1);
    for (int64_t sample = 0; sample < samples(); ++sample) {
      const int64_t* mask = mask_.values.data() + sample * tokens();
      const int64_t answer = std::find(mask, mask + tokens(), 0) - mask;
      if (std::any_of(mask + answer, mask + tokens(), [](int64_t m) { return m != 0; }))
        return Bad(absl::StrFormat("completion_mask of sample %d is not ones, then zeros", sample));
      answer_lengths_.push_back(answer);
      batch.num_labels += answer;
      batch.row_ids.push_back(sample);
      for (int64_t s = 0; s < prompt() + answer; ++s) {
        const size_t place = static_cast<size_t>(sample * length() + s);
        const int64_t id = s < prompt() ? prompts_.values[static_cast<size_t>(sample * prompt() + s)]
                                        : completions_.values[static_cast<size_t>(sample * tokens() + s - prompt())];
        batch.tokens[place] = static_cast<int32_t>(id);
        batch.positions[place] = static_cast<int32_t>(s);
        if (s >= prompt()) batch.labels[place - 1] = static_cast<int32_t>(id);
      }
    }
    return batch.num_labels > 0 ? absl::OkStatus() : Bad("completion_mask hides every token");
  }

  // [samples, tokens] -> by label.
  absl::StatusOr<std::vector<float>> ByLabel(const char* name) const {
    ASSIGN_OR_RETURN(const std::vector<float> values, Floats(name, completions_.shape));
    std::vector<float> out(reference_.batch.tokens.size());
    ForEachToken(
        [&](int64_t sample, int64_t t) { out[Place(sample, t)] = values[static_cast<size_t>(sample * tokens() + t)]; });
    return out;
  }

  template <class Body>
  void ForEachToken(const Body& body) const {
    for (int64_t sample = 0; sample < samples(); ++sample) {
      for (int64_t t = 0; t < AnswerLength(sample); ++t) body(sample, t);
    }
  }

  absl::Status FillTargets() {
    core::PolicyTargets& policy = reference_.batch.policy.emplace();
    ASSIGN_OR_RETURN(policy.old_log_probs, ByLabel("old_logprobs"));
    if (reference_.file.Find("ref_logprobs")) {
      ASSIGN_OR_RETURN(policy.reference_log_probs, ByLabel("ref_logprobs"));
    }
    if (reference_.file.Find("logprobs")) {
      ASSIGN_OR_RETURN(reference_.log_probs, ByLabel("logprobs"));
    }
    ASSIGN_OR_RETURN(const std::vector<float> advantages, Floats("advantages", {samples()}));
    policy.advantages.resize(reference_.batch.tokens.size());
    policy.sequences.assign(reference_.batch.tokens.size(), -1);
    ForEachToken([&](int64_t sample, int64_t t) {
      policy.advantages[Place(sample, t)] = advantages[static_cast<size_t>(sample)];
      policy.sequences[Place(sample, t)] = static_cast<int32_t>(sample);
    });
    return absl::OkStatus();
  }

  absl::Status ReadVariant(const std::string& key, const std::string& text) {
    const std::string source = reference_.file.path() + ": metadata " + core::Quoted(key);
    ASSIGN_OR_RETURN(const nlohmann::json json, core::ParseJson(text, {.name = source}, {}));
    if (!json.is_object()) return Bad(core::Quoted(key) + " of its metadata is not a JSON object");
    const auto bad = [&](const char* name, const char* rule) {
      return Bad(absl::StrFormat("%s of its metadata: %s must be %s", core::Quoted(key), name, rule));
    };
    const auto number = [&](const char* name) -> std::optional<double> {
      const auto found = json.find(name);
      if (found == json.end() || !found->is_number()) return std::nullopt;
      return found->get<double>();
    };
    const std::optional<double> low = number("clip_low"), high = number("clip_high"), kl = number("kl");
    if (!low || !high || !kl) return bad("clip_low, clip_high, kl", "numbers");
    const std::string loss = json.value("loss", nlohmann::json()).is_string() ? json["loss"].get<std::string>() : "";
    PolicyVariant variant{
        .name = key, .rule = {.kl = *kl, .estimator = core::PolicyRule::Kl::kWeightedK3}, .weights = {}};
    if (loss == "cispo") {
      variant.rule.cap = *high;
    } else {
      variant.rule.clip_low = *low;
      variant.rule.clip_high = *high;
    }
    if (const std::optional<double> delta = number("delta")) {
      // Below 1 + clip_high it would also change what a positive advantage gives, which no paper has.
      if (*delta < 1 + *high) return bad("delta", "null, or at least 1 + clip_high");
      variant.rule.dual = *delta;
    }
    const auto level = json.find("level");
    if (level != json.end() && *level == "sequence") variant.rule.ratio = core::PolicyRule::Ratio::kSequence;
    if (level != json.end() && *level != "sequence" && *level != "token") return bad("level", "token or sequence");
    if (*kl != 0 && reference_.batch.policy->reference_log_probs.empty())
      return Bad("it has no ref_logprobs, which the kl of " + core::Quoted(key) + " needs");
    const std::optional<double> max_length = number("max_length");
    if (loss == "dr_grpo" && (!max_length || *max_length <= 0)) return bad("max_length", "a number above 0");
    variant.weights = Weights(loss, max_length.value_or(1));
    if (variant.weights.empty()) return bad("loss", "grpo, bnpo, dapo, dr_grpo or cispo");
    reference_.variants.push_back(std::move(variant));
    return absl::OkStatus();
  }

  // Empty for an unknown loss.
  std::vector<float> Weights(const std::string& loss, double max_length) const {
    const double rows = static_cast<double>(samples()), labels = static_cast<double>(reference_.batch.num_labels);
    const bool by_token = loss == "bnpo" || loss == "dapo" || loss == "cispo";
    if (!by_token && loss != "grpo" && loss != "dr_grpo") return {};
    std::vector<float> weights(reference_.batch.tokens.size());
    ForEachToken([&](int64_t sample, int64_t t) {
      const double answer = static_cast<double>(AnswerLength(sample));
      const double divisor = by_token ? labels : rows * (loss == "grpo" ? answer : max_length);
      weights[Place(sample, t)] = static_cast<float>(1 / divisor);
    });
    return weights;
  }

  PolicyReference& reference_;
  const int64_t vocab_size_;
  IntegerTable prompts_, completions_, mask_;
  std::vector<int64_t> answer_lengths_;
};

}  // namespace

bool IsPolicyReference(const core::SafetensorsFile& file) { return file.Find("prompt_ids") != nullptr; }

absl::StatusOr<PolicyReference> PolicyReference::Open(const std::string& path, int64_t vocab_size) {
  ASSIGN_OR_RETURN(core::SafetensorsFile file, core::SafetensorsFile::Open(path));
  PolicyReference reference{.file = std::move(file), .batch = {}, .log_probs = {}, .variants = {}};
  RETURN_IF_ERROR(Reader(reference, vocab_size).Read());
  return reference;
}

}  // namespace conclave::launch
