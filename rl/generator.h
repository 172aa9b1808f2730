// SPDX-License-Identifier: Apache-2.0
// Draws responses with the trainer's weights and kernels, on every rank of a layout. Data ranks have samples of their
// own. Ranks of a pipeline pass batches of samples ("waves") round: while one stage works on one wave, the next stage
// works on another, and drawn tokens return from the last stage to the first. Ranks that share experts make their calls
// together, with no rows where one has none, until none of them has any.
//
// A sample depends on (seed, draw, sample, position) and the weights alone, and its log-probabilities are, bit for bit,
// those that the trainer's forward pass gives: caches hold what the trainer computes, the vocabulary is reduced in the
// blocks of the loss, and kernels treat each row alone. With a model that caches latents they are near these.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/decode_stage.h"
#include "parallel/layout.h"
#include "rl/completion.h"
#include "rl/slot_queue.h"

namespace conclave::rl {

struct GeneratorOptions {
  uint64_t seed = 0;
  float temperature = 1, top_p = 1, min_p = 0;
  int top_k = 0;
  int64_t decode_slots = 256;       // samples side by side, over the waves of a rank
  int64_t max_prompt_tokens = 256;  // of a request at most
  int64_t max_tokens = 256;         // of a response, where has_ended does not say so before
  int64_t max_samples = 1;          // of a request at most
};

class Generator {
 public:
  // Collective. `model`: of this rank, under the layout; both outlive the generator.
  static absl::StatusOr<std::unique_ptr<Generator>> Create(core::Model& model, const parallel::Layout& layout,
                                                           const GeneratorOptions& options);

  // The responses to this rank's requests, which are those of all ranks of its pipeline, in order. Collective.
  // `has_ended`: see SlotQueue; a pure function, the same on all ranks of a pipeline.
  std::vector<Completion> Generate(std::vector<Request> requests, const SlotQueue::HasEnded& has_ended);

 private:
  // A part of this rank's samples, on its way round the pipeline.
  struct Wave {
    SlotQueue queue;
    int64_t first_slot = 0;
    int64_t calls = 0;  // planned so far
    bool done = false;
    // The call under way:
    bool reading = false;  // prompts, or else one token of each active sample
    int64_t rows = 0, length = 0;
    int64_t num_drawn = 0;  // tokens that it will draw
    std::span<const Request> prompts;
    std::vector<int32_t> tokens, positions;  // [rows, length]
    std::vector<int64_t> group_rows;
    std::vector<int32_t> results;      // of the call before, as Drawn by bits
    core::Tensor device_results = {};  // i32 [...]: the same on their way
    std::vector<parallel::Ticket> results_sent = {};
  };

  Generator(core::Model& model, const parallel::Layout& layout, const GeneratorOptions& options)
      : model_(model), options_(options), num_stages_(static_cast<int>(layout.stage_parts().size())) {}
  absl::Status Allocate(const parallel::Layout& layout);
  absl::Status AllocateStages();

  void Plan(Wave& wave);  // the next call, or that there is none
  void PlanReading(Wave& wave, int64_t length);
  void PlanDecoding(Wave& wave);
  std::vector<int64_t> GatherFromExperts(int64_t value);  // of the ranks that share experts, in their order
  void TakeResults(Wave& wave);                           // of the call before, wherever they were drawn
  void MoveCaches(const Wave& wave);
  void RunStage(Wave& wave, int index);
  void Draw(Wave& wave, core::DecodeStage& decode, core::Tensor hidden);
  void DrawSample(const Wave& wave, int64_t sample);  // of every row: into drawn_
  void SendResults(Wave& wave);
  void WaitForSend(parallel::Ticket& ticket);
  void WaitForResults(Wave& wave);

  core::Model& model_;
  const GeneratorOptions options_;
  const int num_stages_;
  int num_waves_ = 1;
  int last_rank_ = 0;                        // of the pipeline: holds the last stage
  std::vector<int> stages_, rank_of_stage_;  // of this rank; by stage
  std::unique_ptr<parallel::Comm> pipeline_, experts_;
  int64_t wave_slots_ = 0, prompt_slots_ = 0;               // of a wave
  std::vector<std::unique_ptr<core::DecodeStage>> decode_;  // by stage of this rank
  std::vector<parallel::Ticket> sent_;                      // outputs under way, by stage of this rank
  std::vector<core::Tensor> outputs_;                       // of the last call, by stage of this rank
  std::unique_ptr<core::DeviceBuffer> memory_;
  core::Tensor logits_, gathered_;  // [rows, V], [rows, D]
  core::Permutation last_tokens_;   // which rows of a reading are drawn from
  core::SampleArgs sample_;
  core::Tensor counts_, results_;  // i64 [expert ranks]; i32 [waves, tokens of a call x 4], kept to receive
  std::vector<int64_t> draw_ids_;
  std::vector<int32_t> drawn_tokens_;
  std::vector<float> drawn_log_probs_, drawn_filtered_, drawn_entropy_;
  std::vector<Drawn> drawn_;
};

// What the draw at a position is keyed by, beside the seed.
int64_t DrawId(int64_t draw, int64_t sample, int64_t position);

}  // namespace conclave::rl
