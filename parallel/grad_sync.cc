// SPDX-License-Identifier: Apache-2.0
#include "parallel/grad_sync.h"

#include <algorithm>

namespace conclave::parallel {

using core::Param;
using core::ParamKind;
using core::Tensor;

std::vector<int64_t> ShardOffsets(int64_t rows, int holders) {
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i <= holders; ++i) offsets.push_back(rows * i / holders);
  return offsets;
}

void AssignShards(const HolderComms& comms, core::ParamSet& params) {
  for (const auto& param : params.params()) {
    const Comm& comm = comms.Of(param->spec);
    const std::vector<int64_t> offsets = ShardOffsets(param->rows(), comm.size());
    param->shard = {offsets[comm.rank()], offsets[comm.rank() + 1]};
  }
}

GradSync::GradSync(core::Model& model, const HolderComms& comms) : model_(model) {
  for (const auto& param : model.params().params()) {
    Comm& comm = comms.Of(param->spec);
    if (comm.size() == 1 || !param->sum) continue;
    entries_.push_back({.param = param.get(),
                        .comm = &comm,
                        .offsets = ShardOffsets(param->rows(), comm.size()),
                        .early = param->spec.kind != ParamKind::kEmbedding,
                        .ticket = {}});
  }
}

void GradSync::Begin(Entry& entry) {
  entry.ticket = entry.comm->ReduceScatter(model_.stream(), entry.param->AsRows(entry.param->sum), entry.offsets);
  entry.reduced = true;
}

void GradSync::BeginReduce(const core::Stage& stage) {
  for (Entry& entry : entries_) {
    const std::vector<Param*>& own = stage.params();
    if (entry.early && !entry.reduced && std::find(own.begin(), own.end(), entry.param) != own.end()) Begin(entry);
  }
}

void GradSync::EndReduce() {
  for (Entry& entry : entries_) {
    if (!entry.reduced) Begin(entry);
  }
  for (Entry& entry : entries_) {
    entry.comm->Wait(model_.stream(), entry.ticket);
    entry.reduced = false;
    const Param& param = *entry.param;
    const Tensor sum = param.AsRows(param.sum);
    const core::Shard shard = param.shard;
    if (shard.begin > 0) model_.kernels().Zero(sum.Slice(0, 0, shard.begin));
    if (shard.end < param.rows()) model_.kernels().Zero(sum.Slice(0, shard.end, param.rows() - shard.end));
  }
}

void GradSync::GatherMasters() {
  for (Entry& entry : entries_) {
    entry.ticket = entry.comm->AllGather(model_.stream(), entry.param->AsRows(entry.param->master), entry.offsets);
  }
  for (Entry& entry : entries_) entry.comm->Wait(model_.stream(), entry.ticket);
}

}  // namespace conclave::parallel
