// SPDX-License-Identifier: Apache-2.0
#include "parallel/grad_sync.h"

#include <algorithm>

namespace conclave::parallel {

using core::Param;
using core::ParamKind;
using core::Tensor;

namespace {

bool SharesMemory(const Tensor& a, const Tensor& b) {
  const char *first = a.As<char>(), *second = b.As<char>();
  return first < second + b.Bytes() && second < first + a.Bytes();
}

}  // namespace

std::vector<int64_t> ShardOffsets(int64_t rows, int holders) {
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i <= holders; ++i) offsets.push_back(rows * i / holders);
  return offsets;
}

void AssignShards(const HolderComms& comms, int64_t zero, core::ParamSet& params) {
  for (const auto& param : params.params()) {
    const Comm& comm = comms.Of(param->spec);
    const std::vector<int64_t> offsets = ShardOffsets(param->rows(), comm.size());
    param->shard = {offsets[comm.rank()], offsets[comm.rank() + 1]};
    // Matrices of blocks: the rest is small, or read where it lies.
    param->cut_master = comm.size() > 1 && param->layer >= 0 && param->spec.kind == ParamKind::kMatrix;
    param->cut_gradient = zero == 2 && param->cut_master;
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
    if (entry.early && !entry.param->cut_gradient && !entry.reduced &&
        std::find(own.begin(), own.end(), entry.param) != own.end())
      Begin(entry);
  }
}

void GradSync::BeginLayer(int64_t layer) {
  // The memory may still hold what another layer, or this one in the micro-batch before, is reducing.
  for (Entry& entry : entries_) {
    if (!entry.param->cut_gradient || entry.param->layer != layer) continue;
    for (Entry& other : entries_) {
      if (other.ticket && SharesMemory(other.param->sum, entry.param->sum)) Finish(other);
    }
  }
}

void GradSync::EndLayer(int64_t layer) {
  for (Entry& entry : entries_) {
    if (entry.param->cut_gradient && entry.param->layer == layer) Begin(entry);
  }
}

void GradSync::Finish(Entry& entry) {
  entry.comm->Wait(model_.stream(), entry.ticket);
  entry.ticket = {};
  entry.reduced = false;
  const Param& param = *entry.param;
  if (param.shard.size() > 0) {
    model_.kernels().Add(param.shard_sum, param.ShardOf(param.sum), param.shard_sum);
  }
  model_.kernels().Zero(param.sum);
}

void GradSync::EndReduce() {
  for (Entry& entry : entries_) {
    if (!entry.param->cut_gradient && !entry.reduced) Begin(entry);
  }
  for (Entry& entry : entries_) {
    const Param& param = *entry.param;
    if (param.cut_gradient) {
      if (entry.ticket) Finish(entry);
      continue;
    }
    entry.comm->Wait(model_.stream(), entry.ticket);
    entry.ticket = {};
    entry.reduced = false;
    const Tensor sum = param.AsRows(param.sum);
    const core::Shard shard = param.shard;
    if (shard.begin > 0) model_.kernels().Zero(sum.Slice(0, 0, shard.begin));
    if (shard.end < param.rows()) model_.kernels().Zero(sum.Slice(0, shard.end, param.rows() - shard.end));
  }
}

void GradSync::GatherMasters() {
  for (Entry& entry : entries_) {
    if (entry.param->cut_master) continue;
    entry.ticket = entry.comm->AllGather(model_.stream(), entry.param->AsRows(entry.param->master), entry.offsets);
  }
  for (Entry& entry : entries_) {
    if (entry.param->cut_master) continue;
    entry.comm->Wait(model_.stream(), entry.ticket);
    entry.ticket = {};
  }
  VisitCutMasters([this](const Param& param, Tensor whole) { core::PackPanels(model_.kernels(), param, whole); });
}

void GradSync::VisitCutMasters(absl::FunctionRef<void(const Param&, Tensor)> visit) {
  for (Entry& entry : entries_) {
    if (entry.param->cut_master) visit(*entry.param, GatherCut(entry));
  }
}

Tensor GradSync::GatherCut(Entry& entry) {
  const Param& param = *entry.param;
  const Tensor whole = model_.params().WholeMaster(param);
  if (param.shard.size() > 0) model_.kernels().Cast(param.master, param.ShardOf(whole));
  entry.comm->Wait(model_.stream(), entry.comm->AllGather(model_.stream(), param.AsRows(whole), entry.offsets));
  return whole;
}

}  // namespace conclave::parallel
