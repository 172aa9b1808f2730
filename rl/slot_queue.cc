// SPDX-License-Identifier: Apache-2.0
#include "rl/slot_queue.h"

#include <algorithm>

#include "core/base/check.h"

namespace conclave::rl {

SlotQueue::SlotQueue(std::vector<Request> requests, int64_t decode_slots, Filters filters, HasEnded has_ended)
    : requests_(std::move(requests)), decode_slots_(decode_slots), filters_(filters), has_ended_(std::move(has_ended)) {
  for (const Request& request : requests_) {
    for (int64_t i = 0; i < request.samples; ++i) {
      completions_.push_back({.draw = request.draw, .sample = request.first_sample + i});
    }
  }
}

int64_t SlotQueue::NextPromptLength() const {
  if (!waiting_.empty() || num_active() == decode_slots_ || next_request_ == requests_.size()) return 0;
  return static_cast<int64_t>(requests_[next_request_].prompt.size());
}

std::span<const Request> SlotQueue::TakePrompts(int64_t most, int64_t longest) {
  first_of_reading_ = next_request_;
  if (NextPromptLength() == 0) return {};
  while (next_request_ < requests_.size() && static_cast<int64_t>(next_request_ - first_of_reading_) < most &&
         static_cast<int64_t>(requests_[next_request_].prompt.size()) <= longest) {
    ++next_request_;
  }
  return std::span(requests_).subspan(first_of_reading_, next_request_ - first_of_reading_);
}

bool SlotQueue::Append(Completion& completion, const Drawn& drawn) {
  completion.tokens.push_back(drawn.token);
  completion.log_probs.push_back(drawn.log_prob);
  if (filters_ == Filters::kSome) completion.filtered_log_probs.push_back(drawn.filtered_log_prob);
  completion.entropy += static_cast<double>(drawn.entropy);
  return !has_ended_(completion, completion.ending);
}

void SlotQueue::AddFirst(std::span<const Drawn> drawn) {
  size_t next = 0;
  for (size_t r = first_of_reading_; r < next_request_; ++r) {
    const int64_t slot = decode_slots_ + static_cast<int64_t>(r - first_of_reading_);
    for (int64_t i = 0; i < requests_[r].samples; ++i, ++next_completion_) {
      if (!Append(completions_[next_completion_], drawn[next++])) continue;
      waiting_.push_back({next_completion_, slot, static_cast<int64_t>(requests_[r].prompt.size())});
    }
  }
  CHECK_EQ(next, drawn.size());
  moves_.clear();
  while (num_active() < decode_slots_ && !waiting_.empty()) {
    active_.emplace_back();
    Admit(num_active() - 1);
  }
}

void SlotQueue::Admit(int64_t slot) {
  const Sample& next = waiting_.front();
  moves_.push_back({next.slot, slot, next.length});
  active_[slot] = {next.completion, slot, next.length};
  waiting_.pop_front();
}

void SlotQueue::AddNext(std::span<const Drawn> drawn) {
  CHECK_EQ(drawn.size(), active_.size());
  moves_.clear();
  // From the last one back: what moves into a gap goes on itself.
  for (int64_t slot = num_active() - 1; slot >= 0; --slot) {
    ++active_[slot].length;
    if (Append(completions_[active_[slot].completion], drawn[slot])) continue;
    if (!waiting_.empty()) {
      Admit(slot);
      continue;
    }
    const Sample last = active_.back();
    active_.pop_back();
    if (last.slot == slot) continue;
    moves_.push_back({last.slot, slot, last.length});
    active_[slot] = {last.completion, slot, last.length};
  }
}

}  // namespace conclave::rl
