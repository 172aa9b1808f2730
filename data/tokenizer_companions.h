// SPDX-License-Identifier: Apache-2.0
// The files beside a vocabulary: tokenizer_config.json, special_tokens_map.json, chat_template.jinja, ... They say
// which tokens begin and end a text, and travel with the model.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "data/bpe_description.h"
#include "data/bpe_tokenizer.h"

namespace conclave::data {

// Reads what there is in `folder`. Added tokens that only tokenizer_config.json knows join the description. Where no
// file names bos or eos, a token of a usual name, or the first of `template_tokens`, is taken. The files do not have
// the vocabulary's own, tokenizer.json.
absl::StatusOr<BpeTokenizer::Surroundings> ReadCompanions(const std::string& folder,
                                                          const std::vector<std::string>& template_tokens,
                                                          BpeDescription& description);

}  // namespace conclave::data
