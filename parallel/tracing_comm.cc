// SPDX-License-Identifier: Apache-2.0
#include "parallel/tracing_comm.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/check.h"

namespace conclave::parallel {
namespace {

using core::Stream;
using core::Tensor;
using core::TraceLane;

enum TracedKind { kAllToAll, kAllGather, kReduceScatter, kAllReduce, kBroadcast, kSend, kReceive, kBarrier, kNumKinds };
constexpr const char* kKinds[kNumKinds] = {"AllToAll",  "AllGather", "ReduceScatter", "AllReduce",
                                           "Broadcast", "Send",      "Receive",       "Barrier"};

class TracingComm final : public Comm {
 public:
  TracingComm(std::unique_ptr<Comm> inner, core::Trace& trace)
      : Comm(inner->rank(), inner->size(), inner->name()), inner_(std::move(inner)), trace_(trace) {
    for (int kind = 0; kind < kNumKinds; ++kind) names_[kind] = name() + " " + kKinds[kind];
  }

  void Wait(Stream& stream, Ticket ticket) override {
    CHECK(ticket && ticket.id < static_cast<int64_t>(pending_.size()));
    const Pending pending = pending_[ticket.id];
    const int64_t begin = trace_.Now();
    inner_->Wait(stream, ticket);
    Record(pending, begin);
  }
  void Barrier() override {
    const int64_t begin = trace_.Now();
    inner_->Barrier();
    Record({.begin = begin, .place = trace_.place()}, begin);
  }
  std::unique_ptr<Comm> Split(int color, std::string name) override {
    std::unique_ptr<Comm> part = inner_->Split(color, std::move(name));
    return part ? MakeTracingComm(std::move(part), trace_) : nullptr;
  }

 protected:
  Ticket BeginAllToAll(Stream& stream, Tensor send, std::span<const int64_t> send_offsets, Tensor receive,
                       std::span<const int64_t> receive_offsets) override {
    const Pending pending = Begin(kAllToAll);
    return Keep(inner_->AllToAll(stream, send, send_offsets, receive, receive_offsets), pending);
  }
  Ticket BeginAllGather(Stream& stream, Tensor x, std::span<const int64_t> offsets) override {
    const Pending pending = Begin(kAllGather);
    return Keep(inner_->AllGather(stream, x, offsets), pending);
  }
  Ticket BeginReduceScatter(Stream& stream, Tensor x, std::span<const int64_t> offsets) override {
    const Pending pending = Begin(kReduceScatter);
    return Keep(inner_->ReduceScatter(stream, x, offsets), pending);
  }
  Ticket BeginAllReduce(Stream& stream, Tensor x, Reduction reduction) override {
    const Pending pending = Begin(kAllReduce);
    return Keep(inner_->AllReduce(stream, x, reduction), pending);
  }
  Ticket BeginBroadcast(Stream& stream, Tensor x, int root) override {
    const Pending pending = Begin(kBroadcast);
    return Keep(inner_->Broadcast(stream, x, root), pending);
  }
  Ticket BeginSend(Stream& stream, Tensor x, int to, int tag) override {
    const Pending pending = Begin(kSend);
    return Keep(inner_->Send(stream, x, to, tag), pending);
  }
  Ticket BeginReceive(Stream& stream, Tensor x, int from, int tag) override {
    const Pending pending = Begin(kReceive);
    return Keep(inner_->Receive(stream, x, from, tag), pending, static_cast<int64_t>(AllRows(x).size()));
  }

 private:
  struct Pending {
    TracedKind kind = kBarrier;
    int64_t begin = 0;
    core::TracePlace place;
    int64_t sent_before = 0, bytes = 0;
  };
  Pending Begin(TracedKind kind) const { return {kind, trace_.Now(), trace_.place(), inner_->bytes_sent()}; }
  Ticket Keep(Ticket ticket, Pending pending, int64_t bytes_received = 0) {
    pending.bytes = inner_->bytes_sent() - pending.sent_before + bytes_received;
    pending_.resize(std::max<size_t>(pending_.size(), ticket.id + 1));
    pending_[ticket.id] = pending;
    return ticket;
  }
  void Record(const Pending& pending, int64_t wait_begin) {
    const int64_t end = trace_.Now();
    const std::string& name = names_[pending.kind];
    trace_.Record(TraceLane::kWait, "wait", name, wait_begin, end, pending.place);
    trace_.Record(TraceLane::kExchange, "exchange", name, pending.begin, end, pending.place, pending.bytes);
  }

  std::unique_ptr<Comm> inner_;
  core::Trace& trace_;
  std::array<std::string, kNumKinds> names_;
  std::vector<Pending> pending_;  // by ticket
};

}  // namespace

std::unique_ptr<Comm> MakeTracingComm(std::unique_ptr<Comm> inner, core::Trace& trace) {
  return std::make_unique<TracingComm>(std::move(inner), trace);
}

}  // namespace conclave::parallel
