// SPDX-License-Identifier: Apache-2.0
// Rows for supervised fine-tuning. A sample is a chat of which some tokens are learned: all that the assistant says,
// with the token that ends it (sft.loss: answers), the final answer alone (last), or everything (all). Samples are
// chats (`messages`), lines of prompt and response, or problems of a task; they are held in memory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "data/load_options.h"
#include "data/loader.h"
#include "data/packed_loader.h"
#include "data/sample_rows.h"
#include "data/sft_samples.h"
#include "data/tokenizer.h"

namespace conclave::data {

// What a source gives before it becomes rows.
struct SampleSource {
  std::string key;   // in the config: "data.train.0", "sft.data"
  std::string name;  // path or task
  double weight = 1;
  Samples samples;
  std::vector<SamplePrompt> prompts;
  TextCounts counts;  // long_documents: samples that were dropped
};

// Of all sources of training, or of validation. Errors as below.
enum class SampleUse { kTraining, kValidation };
absl::StatusOr<std::vector<SampleSource>> ReadSamples(const core::Config& config, const Tokenizer& tokenizer,
                                                      SampleUse use, const LoadOptions& options = {});

// A score on what was trained on says nothing: an error that names a sample of both.
absl::Status CheckDisjoint(std::span<const SampleSource> train, std::span<const SampleSource> validation);

// The loader of stage sft. vocab_size bounds the ids. Errors name the key, or file and line; a sample longer than a row
// is one, or dropped and counted, as data.long_prompts says.
absl::StatusOr<std::unique_ptr<Loader>> CreateSftLoader(const core::Config& config, const Tokenizer& tokenizer,
                                                        int64_t vocab_size, const LoadOptions& options = {});

}  // namespace conclave::data
