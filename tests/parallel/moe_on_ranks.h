// SPDX-License-Identifier: Apache-2.0
// A mixture of experts, forward and backward, on ranks as threads: what it computes, put together in the order of the
// whole batch, and what it took. One rank that holds all experts is the reference.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/model/counting_kernels.h"
#include "core/model/memory_plan.h"
#include "core/model/moe.h"
#include "parallel/expert_exchange.h"
#include "tests/core/device/every_device.h"
#include "tests/support/device_arrays.h"
#include "tests/support/run_ranks.h"

namespace conclave::parallel::test {

struct MoeProblem {
  core::DType dtype = core::DType::kF32;
  core::PassMode mode = core::PassMode::kTrain;
  int64_t experts = 7, top_k = 3, hidden = 20, width = 12, length = 9;
  int64_t rows = 8;         // of the whole batch
  std::vector<float> bias;  // [experts] of the choice; empty: zeros
  int64_t padding = 2;      // tokens at the end of every third row
  bool shared_expert = true;
  int32_t PositionOf(int64_t row, int64_t s) const {
    return row % 3 == 1 && s >= length - padding ? -1 : static_cast<int32_t>(s);
  }
};

struct MoeLayout {
  std::vector<int64_t> rank_rows;  // rows of the batch on each rank
  int nodes = 0;                   // 0: one hop
  ExpertPlacement placement;
  ReturnedRows returned = ReturnedRows::kEachChoice;
  int repeats = 1;  // runs of forward and backward, each on the same memory
};

// Of one rank, or of all ranks together.
struct MoeResult {
  std::vector<unsigned char> y, dx;                  // [tokens, hidden]
  std::vector<int32_t> choices;                      // [tokens, top_k]
  std::map<std::string, std::vector<int64_t>> sums;  // gradients by Hugging Face name, added over ranks
  std::vector<core::ExchangeRows> rows;              // by rank
  std::vector<core::PassMemory> planned, measured;   // by rank
  std::vector<int64_t> first_bytes, second_bytes;    // by rank: sent over each communicator
};

// A rank's layer and its pass, with memory for the most rows that can come.
class MoeOfRank {
 public:
  MoeOfRank(const MoeProblem& problem, std::unique_ptr<core::TokenExchange> exchange, int64_t first_row, int64_t rows,
            std::vector<int64_t> group_rows);

  // Forward and, in training modes, backward.
  void Run();
  MoeResult Result();

 private:
  void Phases(core::Lane& lane, core::StagePass& pass, core::MoeSaved& saved);
  core::PassMemory Plan(std::vector<core::ExchangeRows> rows);
  void Describe(core::StagePass& pass) const;
  core::Tensor Rows(core::DType dtype, uint64_t key);

  const MoeProblem problem_;
  const int64_t first_row_, rows_;
  const std::vector<int64_t> group_rows_;
  std::unique_ptr<core::Device> device_ = core::CreateDevice({.name = "cpu", .num_threads = 1}).value();
  std::unique_ptr<core::Stream> stream_ = device_->CreateStream();
  std::unique_ptr<core::Kernels> kernels_ = device_->CreateKernels(*stream_);
  core::test::DeviceArrays arrays_{*device_};
  core::ParamSet params_;
  std::unique_ptr<core::Moe> moe_;
  core::Tensor x_, residual_, dy_, y_, dx_, row_offsets_;
  core::DeviceTokens tokens_;
  std::vector<std::unique_ptr<core::DeviceBuffer>> memory_;
  core::Arena scratch_{"scratch"};
  core::StagePass pass_;
  core::MoeSaved saved_;
};

inline core::ModelConfig ConfigOf(const MoeProblem& problem) {
  core::ModelConfig config;
  config.hidden_size = problem.hidden;
  config.moe_intermediate_size = problem.width;
  config.n_routed_experts = problem.experts;
  config.num_experts_per_tok = problem.top_k;
  config.n_shared_experts = problem.shared_expert ? 1 : 0;
  return config;
}

inline MoeOfRank::MoeOfRank(const MoeProblem& problem, std::unique_ptr<core::TokenExchange> exchange, int64_t first_row,
                            int64_t rows, std::vector<int64_t> group_rows)
    : problem_(problem), first_row_(first_row), rows_(rows), group_rows_(std::move(group_rows)) {
  moe_ = std::make_unique<core::Moe>(ConfigOf(problem), params_, std::move(exchange), "moe", "moe.", problem.dtype);
  CHECK(params_.Allocate(*device_, *kernels_, problem.dtype, core::ParamSet::Purpose::kTraining, {}).ok());
  params_.Initialize(*kernels_, 7, 0.3);
  if (!problem.bias.empty()) {
    device_->CopyToDevice(*stream_, problem.bias.data(), moe_->router().bias()->master);
  }
  params_.Refresh(*kernels_);
  x_ = Rows(problem.dtype, 1);
  residual_ = Rows(problem.dtype, 2);
  dy_ = Rows(problem.dtype, 3);
  y_ = arrays_.Zeros(problem.dtype, {rows * problem.length, problem.hidden});
  dx_ = arrays_.Zeros(problem.dtype, {rows * problem.length, problem.hidden});
  std::vector<double> positions, row_offsets;
  for (int64_t i = 0; i < rows * problem.length; ++i) {
    positions.push_back(problem.PositionOf(first_row + i / problem.length, i % problem.length));
  }
  for (int64_t row = 0; row <= rows; ++row) row_offsets.push_back(static_cast<double>(row * problem.length));
  row_offsets_ = arrays_.Of(core::DType::kI32, {rows + 1}, row_offsets);
  tokens_.positions = rows > 0 ? arrays_.Of(core::DType::kI32, {rows, problem.length}, positions)
                               : arrays_.Zeros(core::DType::kI32, {0, problem.length});
  const core::PassMemory worst = Plan({});
  for (auto [arena, bytes] :
       {std::pair{&pass_.until_input_grad, worst.until_input_grad},
        std::pair{&pass_.until_weight_grad, worst.until_weight_grad},
        std::pair{&pass_.until_block_end, worst.until_block_end}, std::pair{&scratch_, worst.scratch}}) {
    auto buffer = device_->Allocate(bytes, "pass");
    CHECK(buffer.ok());
    arena->Attach((*buffer)->data(), bytes);
    memory_.push_back(std::move(*buffer));
  }
  Describe(pass_);
  pass_.exchange_rows.resize(1);
}

// This rank's rows of a [rows of the batch x length, hidden] array of normal numbers.
inline core::Tensor MoeOfRank::Rows(core::DType dtype, uint64_t key) {
  const int64_t row = problem_.length * problem_.hidden;
  if (rows_ == 0) return arrays_.Zeros(dtype, {0, problem_.hidden});
  const std::vector<float> all = core::test::Normals(key, problem_.rows * row);
  return arrays_.Of(dtype, {rows_ * problem_.length, problem_.hidden},
                    {all.begin() + first_row_ * row, all.begin() + (first_row_ + rows_) * row});
}

inline void MoeOfRank::Describe(core::StagePass& pass) const {
  pass.mode = problem_.mode;
  pass.rows = rows_;
  pass.length = problem_.length;
  pass.row_offsets = row_offsets_;
  pass.group_rows = group_rows_;
  pass.batch_rows = problem_.rows;
}

inline void MoeOfRank::Phases(core::Lane& lane, core::StagePass& pass, core::MoeSaved& saved) {
  moe_->Route(lane, pass, tokens_, x_, {}, saved);
  moe_->Dispatch(lane, pass, x_, saved);
  moe_->Experts(lane, pass, x_, saved);
  moe_->Combine(lane, pass, residual_, saved, y_);
  if (pass.mode == core::PassMode::kForwardOnly) return;
  pass.until_block_end.Reset();
  moe_->CombineBackward(lane, pass, dy_, saved);
  moe_->ExpertsBackward(lane, pass, dy_, saved);
  moe_->DispatchBackward(lane, pass, tokens_, x_, 0, saved, dx_);
}

// Empty: the most rows there can be.
inline core::PassMemory MoeOfRank::Plan(std::vector<core::ExchangeRows> rows) {
  core::CountingKernels counter(*kernels_);
  core::Arena scratch("scratch");
  core::Lane lane{counter, scratch, *device_, *stream_};
  core::StagePass pass;
  Describe(pass);
  pass.planning = true;
  pass.exchange_rows = rows;
  if (rows.empty()) pass.exchange_rows = {moe_->exchange().WorstRows(pass, problem_.top_k)};
  core::MoeSaved saved;
  Phases(lane, pass, saved);
  return {.until_input_grad = pass.until_input_grad.peak(),
          .until_weight_grad = pass.until_weight_grad.peak(),
          .until_block_end = pass.until_block_end.peak(),
          .scratch = scratch.peak()};
}

inline void MoeOfRank::Run() {
  pass_.Reset();
  core::Lane lane{*kernels_, scratch_, *device_, *stream_};
  Phases(lane, pass_, saved_);
  pass_.tasks.Drain(*kernels_);
}

inline MoeResult MoeOfRank::Result() {
  MoeResult result;
  result.y = arrays_.Bytes(y_);
  result.dx = arrays_.Bytes(dx_);
  const int32_t* const experts = saved_.router.experts.As<int32_t>();
  result.choices.assign(experts, experts + saved_.router.experts.Elements());
  EXPECT_EQ(*params_.flag().As<int32_t>(), 0);
  for (const auto& param : params_.params()) {
    if (!param->sum) continue;
    for (const core::ParamPart& part : param->spec.parts) {
      const int64_t* const sum = param->sum.As<int64_t>() + part.offset;
      result.sums[part.hf_name].assign(sum, sum + part.Elements());
    }
  }
  result.rows = pass_.exchange_rows;
  result.planned = {Plan(pass_.exchange_rows)};
  result.measured = {{.until_input_grad = pass_.until_input_grad.peak(),
                      .until_weight_grad = pass_.until_weight_grad.peak(),
                      .until_block_end = pass_.until_block_end.peak(),
                      .scratch = scratch_.peak()}};
  return result;
}

template <class T>
void Append(std::vector<T>& all, const std::vector<T>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

inline MoeResult Join(const std::vector<MoeResult>& ranks) {
  MoeResult all;
  for (const MoeResult& rank : ranks) {
    Append(all.y, rank.y);
    Append(all.dx, rank.dx);
    Append(all.choices, rank.choices);
    Append(all.rows, rank.rows);
    Append(all.planned, rank.planned);
    Append(all.measured, rank.measured);
    Append(all.first_bytes, rank.first_bytes);
    Append(all.second_bytes, rank.second_bytes);
    for (const auto& [name, sum] : rank.sums) {
      std::vector<int64_t>& target = all.sums[name];
      target.resize(sum.size());
      for (size_t i = 0; i < sum.size(); ++i) target[i] += sum[i];
    }
  }
  return all;
}

inline MoeResult RunMoeOnRanks(const MoeProblem& problem, const MoeLayout& layout) {
  const int ranks = static_cast<int>(layout.rank_rows.size());
  CHECK_EQ(std::accumulate(layout.rank_rows.begin(), layout.rank_rows.end(), int64_t{0}), problem.rows);
  std::vector<MoeResult> results(ranks);
  RunRanks(ranks, [&](Comm& world) {
    const int rank = world.rank();
    std::unique_ptr<Comm> first, second;
    if (layout.nodes > 0) {
      const int per_node = ranks / layout.nodes;
      first = world.Split(rank % per_node, "expert_inter");
      second = world.Split(rank / per_node, "expert_intra");
    } else {
      first = world.Split(0, "expert");
    }
    auto exchange = MakeExpertExchange({first.get(), second.get()}, layout.placement, layout.returned, 0);
    const int64_t first_row = std::accumulate(layout.rank_rows.begin(), layout.rank_rows.begin() + rank, int64_t{0});
    MoeOfRank moe(problem, std::move(exchange), first_row, layout.rank_rows[rank], layout.rank_rows);
    for (int i = 0; i < layout.repeats; ++i) moe.Run();
    results[rank] = moe.Result();
    results[rank].first_bytes = {first->bytes_sent()};
    results[rank].second_bytes = {second ? second->bytes_sent() : 0};
  });
  return Join(results);
}

inline MoeResult RunMoeAlone(const MoeProblem& problem) {
  MoeOfRank moe(problem, core::MakeLocalTokenExchange(problem.experts, 0), 0, problem.rows, {problem.rows});
  moe.Run();
  return moe.Result();
}

}  // namespace conclave::parallel::test
