// SPDX-License-Identifier: Apache-2.0
// Which samples are decoded when, and where their caches lie: continuous batching as host data, without a device.
// Prompts are read once, several at a time, into prompt slots; their samples are copied from there into decode slots as
// these become free, and only then the next prompts are read. Active samples lie in slots 0, 1, 2, ... without gaps:
// when one ends, the next sample takes its slot, else the last active one moves there. All ranks of a pipeline run the
// same queue on the same tokens, so none has to be told.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "rl/completion.h"

namespace conclave::rl {

struct SlotMove {
  int64_t from = 0, to = 0, length = 0;  // positions
};

// One token as it was drawn.
struct Drawn {
  int32_t token = 0;
  float log_prob = 0, filtered_log_prob = 0, entropy = 0;
};

class SlotQueue {
 public:
  // Asked after each token of a sample: whether it ends there, and how.
  using HasEnded = std::function<bool(const Completion&, Ending&)>;
  // Slots [0, decode_slots) are for samples, those behind for prompts.
  enum class Filters { kNone, kSome };  // kSome: filtered log-probabilities are kept, too
  SlotQueue(std::vector<Request> requests, int64_t decode_slots, Filters filters, HasEnded has_ended);

  // Tokens of the prompt to be read next; 0 if there is none, or no decode slot for it yet.
  int64_t NextPromptLength() const;
  // Takes up to `most` prompts of at most `longest` tokens, in order; prompt i goes to slot decode_slots + i.
  std::span<const Request> TakePrompts(int64_t most, int64_t longest);
  // The first tokens of all samples of the prompts just taken, in order.
  void AddFirst(std::span<const Drawn> drawn);

  // Active samples are those of slots [0, num_active()).
  int64_t num_active() const { return static_cast<int64_t>(active_.size()); }
  const Completion& CompletionIn(int64_t slot) const { return completions_[active_[slot].completion]; }
  int64_t PositionIn(int64_t slot) const { return active_[slot].length; }  // of the token appended next
  // The next tokens of all active samples, after the last ones were appended.
  void AddNext(std::span<const Drawn> drawn);

  // Caches that AddFirst or AddNext want moved before the next call, in this order.
  const std::vector<SlotMove>& moves() const { return moves_; }
  bool Done() const { return active_.empty() && next_request_ == requests_.size(); }
  std::vector<Completion> TakeCompletions() { return std::move(completions_); }  // in the order of the requests

 private:
  struct Sample {
    int64_t completion = 0;
    int64_t slot = 0;    // where its cache is
    int64_t length = 0;  // positions in it
  };
  // True if the sample goes on.
  bool Append(Completion& response, const Drawn& drawn);
  // Puts the next waiting sample into `slot`.
  void Admit(int64_t slot);

  const std::vector<Request> requests_;
  const int64_t decode_slots_;
  const Filters filters_;
  const HasEnded has_ended_;
  std::vector<Completion> completions_;
  size_t next_request_ = 0, first_of_reading_ = 0;
  int64_t next_completion_ = 0;  // of the next request
  std::vector<Sample> active_;
  std::deque<Sample> waiting_;  // have their first token; caches are those of their prompts
  std::vector<SlotMove> moves_;
};

}  // namespace conclave::rl
