// SPDX-License-Identifier: Apache-2.0
#include "parallel/delay_comm.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "core/base/check.h"

namespace conclave::parallel {
namespace {

using core::Stream;
using core::Tensor;
using Clock = std::chrono::steady_clock;

int64_t BytesOf(const Tensor& x) { return static_cast<int64_t>(AllRows(x).size()); }

class DelayComm final : public Comm {
 public:
  DelayComm(std::unique_ptr<Comm> inner, const Delay& delay)
      : Comm(inner->rank(), inner->size(), inner->name()), inner_(std::move(inner)), delay_(delay) {
    if (delay_.group == name()) delay_.group.clear();
  }

  void Wait(Stream& stream, Ticket ticket) override {
    CHECK(ticket && ticket.id < static_cast<int64_t>(ends_.size()));
    inner_->Wait(stream, ticket);
    std::this_thread::sleep_until(ends_[ticket.id]);
  }
  void Barrier() override {
    const Clock::time_point end = End(0, 0);
    inner_->Barrier();
    std::this_thread::sleep_until(end);
  }
  std::unique_ptr<Comm> Split(int color, std::string name) override {
    std::unique_ptr<Comm> part = inner_->Split(color, std::move(name));
    return part ? MakeDelayComm(std::move(part), delay_) : nullptr;
  }

 protected:
  Ticket BeginAllToAll(Stream& stream, Tensor send, std::span<const int64_t> send_offsets, Tensor receive,
                       std::span<const int64_t> receive_offsets) override {
    const Clock::time_point end = End(OfOthers(send, send_offsets), OfOthers(receive, receive_offsets));
    return Keep(inner_->AllToAll(stream, send, send_offsets, receive, receive_offsets), end);
  }
  Ticket BeginAllGather(Stream& stream, Tensor x, std::span<const int64_t> offsets) override {
    const int64_t own = (offsets[rank() + 1] - offsets[rank()]) * RowBytes(x);
    const Clock::time_point end = End((size() - 1) * own, OfOthers(x, offsets));
    return Keep(inner_->AllGather(stream, x, offsets), end);
  }
  Ticket BeginReduceScatter(Stream& stream, Tensor x, std::span<const int64_t> offsets) override {
    const int64_t own = (offsets[rank() + 1] - offsets[rank()]) * RowBytes(x);
    const Clock::time_point end = End(OfOthers(x, offsets), (size() - 1) * own);
    return Keep(inner_->ReduceScatter(stream, x, offsets), end);
  }
  Ticket BeginAllReduce(Stream& stream, Tensor x, Reduction reduction) override {
    const int64_t bytes = BytesOf(x), moved = 2 * (bytes - bytes / size());
    const Clock::time_point end = End(moved, moved);
    return Keep(inner_->AllReduce(stream, x, reduction), end);
  }
  Ticket BeginBroadcast(Stream& stream, Tensor x, int root) override {
    const int64_t bytes = BytesOf(x);
    const Clock::time_point end = root == rank() ? End((size() - 1) * bytes, 0) : End(0, bytes);
    return Keep(inner_->Broadcast(stream, x, root), end);
  }
  Ticket BeginSend(Stream& stream, Tensor x, int to, int tag) override {
    const Clock::time_point end = End(to == rank() ? 0 : BytesOf(x), 0);
    return Keep(inner_->Send(stream, x, to, tag), end);
  }
  Ticket BeginReceive(Stream& stream, Tensor x, int from, int tag) override {
    const Clock::time_point end = End(0, from == rank() ? 0 : BytesOf(x));
    return Keep(inner_->Receive(stream, x, from, tag), end);
  }

 private:
  int64_t OfOthers(const Tensor& x, std::span<const int64_t> offsets) const {
    const int64_t own = offsets[rank() + 1] - offsets[rank()];
    return (offsets[size()] - offsets[0] - own) * RowBytes(x);
  }
  // Of an operation that begins now.
  Clock::time_point End(int64_t bytes_sent, int64_t bytes_received) const {
    if (!delay_.group.empty()) return {};  // long ago
    const double bytes = static_cast<double>(std::max(bytes_sent, bytes_received));
    const std::chrono::duration<double> time(delay_.seconds_per_operation + delay_.seconds_per_byte * bytes);
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(time);
  }
  Ticket Keep(Ticket ticket, Clock::time_point end) {
    ends_.resize(std::max<size_t>(ends_.size(), ticket.id + 1));
    ends_[ticket.id] = end;
    return ticket;
  }

  std::unique_ptr<Comm> inner_;
  Delay delay_;
  std::vector<Clock::time_point> ends_;  // by ticket
};

}  // namespace

std::unique_ptr<Comm> MakeDelayComm(std::unique_ptr<Comm> inner, const Delay& delay) {
  return std::make_unique<DelayComm>(std::move(inner), delay);
}

}  // namespace conclave::parallel
