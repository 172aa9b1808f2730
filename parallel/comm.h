// SPDX-License-Identifier: Apache-2.0
// A group of ranks and what they exchange. Transports: one rank alone, ranks as threads of one process (tests,
// check-layouts), MPI; a further one delays another. Every operation begins at once and ends at Wait. All members call
// the same operations of a communicator in the same order, which is a pure function of the schedule, so there is one
// communicator per (axis, purpose).
//
// Sums are of integers: their order does not matter, so any algorithm of any library gives the same bits.
//
// `stream`: the operation follows what was enqueued there, and Wait makes the stream follow the operation; on a CPU
// both mean the calling thread. Buffers belong to the operation until Wait. A failed transport is fatal: it ends the
// job through the abort hook of core/base/check.h with a message that names rank, host, communicator and operation.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "core/tensor/tensor.h"

namespace conclave::parallel {

// An operation under way. Must be waited for, once.
struct Ticket {
  int32_t id = -1;
  explicit operator bool() const { return id >= 0; }
};

enum class Reduction { kSum, kMax };

class Comm {
 public:
  virtual ~Comm() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }  // "world", "expert", ...: for messages and traces
  // Bytes that this rank has sent to others since it began: of AllToAll, Send, and its own part of the collectives.
  int64_t bytes_sent() const { return bytes_sent_; }

  // Rows [send_offsets[r], send_offsets[r + 1]) of `send` go to rank r; rows [receive_offsets[r], ...[r + 1]) of
  // `receive` come from it. Both have size() + 1 entries, in rows of dim 0, and are copied. Empty tensors where there
  // are no rows.
  virtual Ticket AllToAll(core::Stream& stream, core::Tensor send, std::span<const int64_t> send_offsets,
                          core::Tensor receive, std::span<const int64_t> receive_offsets) = 0;
  // In place: rows [offsets[r], offsets[r + 1]) of x come from rank r, on every rank. Any dtype.
  virtual Ticket AllGather(core::Stream& stream, core::Tensor x, std::span<const int64_t> offsets) = 0;
  // In place: rows [offsets[rank], offsets[rank + 1]) become the sum over all ranks; the others are unspecified
  // afterwards. i64.
  virtual Ticket ReduceScatter(core::Stream& stream, core::Tensor x, std::span<const int64_t> offsets) = 0;
  // In place, on every rank. i64 or i32.
  virtual Ticket AllReduce(core::Stream& stream, core::Tensor x, Reduction reduction) = 0;
  virtual Ticket Broadcast(core::Stream& stream, core::Tensor x, int root) = 0;
  // Messages of one (sender, receiver, tag) arrive in order; sizes match. tag >= 0.
  virtual Ticket Send(core::Stream& stream, core::Tensor x, int to, int tag) = 0;
  virtual Ticket Receive(core::Stream& stream, core::Tensor x, int from, int tag) = 0;

  virtual void Wait(core::Stream& stream, Ticket ticket) = 0;

  // Returns on any rank after all have called it. Blocks the host.
  virtual void Barrier() = 0;
  // Collective: the members with the same color >= 0 form a group, ordered by rank; nullptr for color -1.
  virtual std::unique_ptr<Comm> Split(int color, std::string name) = 0;

  // ---- Host conveniences on top; they block ----------------------------------------------------------------------
  // The texts of all ranks, in rank order, on every rank.
  std::vector<std::string> GatherTexts(const std::string& text);

 protected:
  Comm(int rank, int size, std::string name) : rank_(rank), size_(size), name_(std::move(name)) {}
  void CountSent(int64_t bytes) { bytes_sent_ += bytes; }

 private:
  int rank_, size_;
  std::string name_;
  int64_t bytes_sent_ = 0;
};

// One rank alone: every operation is a copy, or nothing.
std::unique_ptr<Comm> MakeSelfComm();

}  // namespace conclave::parallel
