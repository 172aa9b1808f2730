// SPDX-License-Identifier: Apache-2.0
// A group of ranks and what they exchange. Transports: ranks as threads of one process (thread_comm.h; one of them is a
// rank alone), MPI (mpi_comm.h); a further one delays another (delay_comm.h). Every operation begins at once and ends
// at Wait. All members call the same operations of a communicator in the same order, which is a pure function of the
// schedule, so there is one communicator per (axis, purpose).
//
// Sums of integers are modulo 2^64 or 2^32: their order does not matter, so any algorithm of any library gives the same
// bits. Sums of f32, for runs that are not exact, have the order of the transport.
//
// `stream`: the operation follows what was enqueued there, and Wait makes the stream follow the operation; on a CPU
// both mean the calling thread. Buffers belong to the operation until Wait; offsets are read at once. A rank can wait
// for its operations in any order, but its peers may have to begin theirs first, sends included. Once the first steps
// are over, nothing is allocated. A failed transport is fatal: it ends the job through the abort hook of
// core/base/check.h with a message that names rank, host, communicator and operation.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
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

// Tensors are contiguous, in rows of dim 0; a null tensor has no rows. Contracts are checked here, transports override
// the protected functions.
class Comm {
 public:
  virtual ~Comm() = default;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }  // "world", "expert", ...: for messages and traces
  // Bytes that this rank has sent to others since it began, the same over all transports: rows of AllToAll and Send;
  // of AllGather the own rows to each other rank, of ReduceScatter the rows of the others, of AllReduce both, of
  // Broadcast the tensor to each other rank.
  int64_t bytes_sent() const { return bytes_sent_; }

  // Rows [send_offsets[r], send_offsets[r + 1]) of `send` go to rank r; rows [receive_offsets[r], ...[r + 1]) of
  // `receive` come from it. Both have size() + 1 entries and are copied.
  Ticket AllToAll(core::Stream& stream, core::Tensor send, std::span<const int64_t> send_offsets, core::Tensor receive,
                  std::span<const int64_t> receive_offsets);
  // In place: rows [offsets[r], offsets[r + 1]) of x come from rank r, on every rank. Any dtype.
  Ticket AllGather(core::Stream& stream, core::Tensor x, std::span<const int64_t> offsets);
  // In place: rows [offsets[rank], offsets[rank + 1]) become the sum over all ranks; the others are unspecified
  // afterwards. i64 or f32.
  Ticket ReduceScatter(core::Stream& stream, core::Tensor x, std::span<const int64_t> offsets);
  // In place, on every rank. i64, i32 or f32.
  Ticket AllReduce(core::Stream& stream, core::Tensor x, Reduction reduction);
  // x of `root` to all.
  Ticket Broadcast(core::Stream& stream, core::Tensor x, int root);
  // Messages of one (sender, receiver, tag) arrive in order; sizes match. 0 <= tag <= kMaxTag.
  Ticket Send(core::Stream& stream, core::Tensor x, int to, int tag);
  Ticket Receive(core::Stream& stream, core::Tensor x, int from, int tag);

  virtual void Wait(core::Stream& stream, Ticket ticket) = 0;

  // Returns on any rank after all have called it. Blocks the host.
  virtual void Barrier() = 0;
  // Collective: the members with the same color >= 0 form a group, ordered by rank; nullptr for color -1. Blocks.
  virtual std::unique_ptr<Comm> Split(int color, std::string name) = 0;

  // ---- Host conveniences on top; they block ----------------------------------------------------------------------
  // The texts of all ranks, in rank order, on every rank.
  std::vector<std::string> GatherTexts(std::string_view text);

  static constexpr int kMaxTag = 32766;  // MPI grants one more, for transports

 protected:
  Comm(int rank, int size, std::string name) : rank_(rank), size_(size), name_(std::move(name)) {}

  virtual Ticket BeginAllToAll(core::Stream& stream, core::Tensor send, std::span<const int64_t> send_offsets,
                               core::Tensor receive, std::span<const int64_t> receive_offsets) = 0;
  virtual Ticket BeginAllGather(core::Stream& stream, core::Tensor x, std::span<const int64_t> offsets) = 0;
  virtual Ticket BeginReduceScatter(core::Stream& stream, core::Tensor x, std::span<const int64_t> offsets) = 0;
  virtual Ticket BeginAllReduce(core::Stream& stream, core::Tensor x, Reduction reduction) = 0;
  virtual Ticket BeginBroadcast(core::Stream& stream, core::Tensor x, int root) = 0;
  virtual Ticket BeginSend(core::Stream& stream, core::Tensor x, int to, int tag) = 0;
  virtual Ticket BeginReceive(core::Stream& stream, core::Tensor x, int from, int tag) = 0;

  // Ends the job: "communicator expert, rank 3 of 8: AllToAll: text".
  [[noreturn]] void Fail(std::string_view operation, std::string_view text) const;

 private:
  int rank_, size_;
  std::string name_;
  int64_t bytes_sent_ = 0;
};

// One rank alone: every operation is a copy, or nothing.
std::unique_ptr<Comm> MakeSelfComm();

// Bytes of a row of dim 0; 0 for a null tensor.
int64_t RowBytes(const core::Tensor& x);
// Rows [begin, end) of a contiguous tensor, or all of it, as bytes; none of a null tensor.
std::span<char> Rows(const core::Tensor& x, int64_t begin, int64_t end);
std::span<char> AllRows(const core::Tensor& x);

}  // namespace conclave::parallel
