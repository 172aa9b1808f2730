// SPDX-License-Identifier: Apache-2.0
#include "data/prompts.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"

#include "core/base/hash.h"
#include "core/base/status_macros.h"
#include "data/count_text.h"
#include "data/epoch_order.h"
#include "data/text_hash.h"

namespace conclave::data {
namespace {

absl::StatusOr<std::vector<PromptSource>> OpenSources(const std::vector<core::SourceConfig>& configs, const char* key,
                                                      const PromptContext& context, uint64_t seed) {
  std::vector<PromptSource> sources;
  for (size_t i = 0; i < configs.size(); ++i) {
    ASSIGN_OR_RETURN(PromptSource source,
                     PromptSource::Open(configs[i], absl::StrFormat("%s.%d", key, i), context, seed));
    sources.push_back(std::move(source));
  }
  return sources;
}

absl::Status InBoth(const Prompt& validation, const std::string& train) {
  constexpr size_t kShownBytes = 100;
  return absl::InvalidArgumentError(absl::StrFormat(
      "data.validation: %s is trained on, too, as %s: \"%s%s\". A score on such problems says nothing; take them out "
      "of "
      "data.prompts or data.validation",
      validation.id, train, validation.text.substr(0, kShownBytes), validation.text.size() > kShownBytes ? "..." : ""));
}

}  // namespace

PromptSet::PromptSet(std::vector<PromptSource> sources, Blend blend, uint64_t seed)
    : sources_(std::move(sources)), blend_(std::move(blend)), seed_(seed) {}

absl::StatusOr<PromptSet> PromptSet::Create(const PromptContext& context, uint64_t seed) {
  if (context.config.prompts.empty()) {
    return absl::InvalidArgumentError("data.prompts: there are none; give e.g. data.prompts: [{path: problems.jsonl}]");
  }
  ASSIGN_OR_RETURN(std::vector<PromptSource> sources,
                   OpenSources(context.config.prompts, "data.prompts", context, seed));
  std::vector<double> weights;
  for (const core::SourceConfig& source : context.config.prompts) weights.push_back(source.weight);
  return PromptSet(std::move(sources), Blend(weights), seed);
}

Prompt PromptSet::At(int64_t draw) const {
  const Blend::Draw drawn = blend_(draw);
  const PromptSource& source = sources_[drawn.source];
  if (!source.size()) return source.At(drawn.index);
  return source.At(DrawElement(seed_, drawn.source, *source.size(), drawn.index));
}

std::string PromptSet::Fingerprint() const {
  constexpr int64_t kFirstOfEndless = 64;
  core::Hasher hasher;
  const auto add = [&hasher](const std::string& text) {
    const auto bytes = static_cast<int64_t>(text.size());
    hasher.Update(&bytes, sizeof(bytes));
    hasher.Update(text.data(), text.size());
  };
  for (const PromptSource& source : sources_) {
    add(source.name());
    for (int64_t i = 0; i < source.size().value_or(kFirstOfEndless); ++i) {
      const Prompt prompt = source.At(i);
      add(prompt.text);
      add(prompt.answer);
    }
  }
  return hasher.HexDigest();
}

std::string PromptSet::Description() const {
  std::string text;
  for (const PromptSource& source : sources_) {
    text += text.empty() ? "" : ", ";
    text += source.size() ? Count(*source.size(), "prompt") + " of " + source.name() : source.name() + " without end";
    if (source.num_dropped() > 0) text += absl::StrFormat(" (%d too long)", source.num_dropped());
  }
  return text;
}

absl::StatusOr<std::vector<Prompt>> ReadValidationPrompts(const PromptContext& context, int64_t most) {
  ASSIGN_OR_RETURN(const std::vector<PromptSource> sources,
                   OpenSources(context.config.validation, "data.validation", context, /*seed=*/0));
  std::vector<Prompt> prompts;
  for (int64_t index = 0, before = -1; before != static_cast<int64_t>(prompts.size()); ++index) {
    before = static_cast<int64_t>(prompts.size());
    for (const PromptSource& source : sources) {
      if (static_cast<int64_t>(prompts.size()) == most) return prompts;
      if (index < source.size().value_or(most)) prompts.push_back(source.At(index));
    }
  }
  return prompts;
}

absl::Status CheckDisjoint(const PromptSet& train, const std::vector<Prompt>& validation) {
  absl::flat_hash_map<uint64_t, const Prompt*> by_text;
  for (const Prompt& prompt : validation) by_text.emplace(TextHash(prompt.text), &prompt);
  for (const PromptSource& source : train.sources()) {
    for (const Prompt& prompt : validation) {
      if (!source.size() && prompt.source == source.name()) return InBoth(prompt, "a problem of " + source.name());
    }
    for (int64_t i = 0; i < source.size().value_or(0); ++i) {
      const auto found = by_text.find(TextHash(source.TextAt(i)));
      if (found != by_text.end()) return InBoth(*found->second, source.At(i).id);
    }
  }
  return absl::OkStatus();
}

}  // namespace conclave::data
