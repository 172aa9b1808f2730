// SPDX-License-Identifier: Apache-2.0
// An operation is a list of requests. All-to-all and all-gather are messages between every two ranks, reduce-scatter is
// a reduction of each part to its owner, in place. What MPI counts in an int is cut into chunks, in the same places on
// all ranks, so any size is safe. Sizes of messages are compared at their arrival.
#include "parallel/mpi_comm.h"

#ifdef CONCLAVE_WITH_MPI
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>
#endif

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"

namespace conclave::parallel {

#ifndef CONCLAVE_WITH_MPI

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start() {
  return absl::UnimplementedError(
      "this program was built without MPI and runs on one rank only; install libopenmpi-dev and build again "
      "(launch/setup.sh does)");
}
MpiSession::~MpiSession() = default;
std::unique_ptr<Comm> MpiSession::MakeWorld() { return nullptr; }
std::unique_ptr<Comm> MpiSession::MakeNode() { return nullptr; }
void MpiSession::Abort() { core::Fatal("built without MPI"); }

#else

namespace {

using core::DType;
using core::Stream;
using core::Tensor;

constexpr int64_t kChunkBytes = int64_t{1} << 30;
constexpr int kExchangeTag = Comm::kMaxTag + 1;  // of the messages inside collectives

std::string ErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return absl::StrFormat("MPI error %d", code);
  return std::string(text, length);
}

MPI_Datatype MpiType(DType dtype) {
  return dtype == DType::kI64 ? MPI_INT64_T : dtype == DType::kI32 ? MPI_INT32_T : MPI_FLOAT;
}

// Requests of an operation, kept from one operation to the next for their memory.
struct Slot {
  const char* operation = nullptr;  // null: free
  std::vector<MPI_Request> requests;
  std::vector<int> expected;  // bytes that a receive must bring; -1 for all others
};

class MpiComm final : public Comm {
 public:
  // Takes over the handle.
  MpiComm(MPI_Comm handle, int rank, int size, std::string name) : Comm(rank, size, std::move(name)), handle_(handle) {}
  ~MpiComm() override {
    int over = 0;
    MPI_Finalized(&over);
    if (!over) MPI_Comm_free(&handle_);
  }

  static std::unique_ptr<MpiComm> Make(MPI_Comm handle, std::string name) {
    int rank = 0, size = 1;
    MPI_Comm_rank(handle, &rank);
    MPI_Comm_size(handle, &size);
    MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN);
    return std::make_unique<MpiComm>(handle, rank, size, std::move(name));
  }

  void Wait(Stream& stream, Ticket ticket) override;
  void Barrier() override { Check(MPI_Barrier(handle_), "Barrier"); }
  std::unique_ptr<Comm> Split(int color, std::string name) override;

 protected:
  Ticket BeginAllToAll(Stream&, Tensor send, std::span<const int64_t> send_offsets, Tensor receive,
                       std::span<const int64_t> receive_offsets) override;
  Ticket BeginAllGather(Stream&, Tensor x, std::span<const int64_t> offsets) override;
  Ticket BeginReduceScatter(Stream&, Tensor x, std::span<const int64_t> offsets) override;
  Ticket BeginAllReduce(Stream&, Tensor x, Reduction reduction) override;
  Ticket BeginBroadcast(Stream&, Tensor x, int root) override;
  Ticket BeginSend(Stream&, Tensor x, int to, int tag) override;
  Ticket BeginReceive(Stream&, Tensor x, int from, int tag) override;

 private:
  void Check(int code, const char* operation) const {
    if (code != MPI_SUCCESS) Fail(operation, ErrorText(code));
  }
  Ticket NewSlot(const char* operation);
  MPI_Request* NewRequest(Slot& slot, int expected = -1);
  void Send(Slot& slot, std::span<char> bytes, int to, int tag);
  void Receive(Slot& slot, std::span<char> bytes, int from, int tag);
  void CheckArrival(const Slot& slot, const MPI_Status& status, int expected) const;

  MPI_Comm handle_;
  std::vector<std::unique_ptr<Slot>> slots_;  // by ticket
};

// Calls visit(pointer, bytes as an int) for each chunk; once for nothing, so that both sides of a message agree.
template <class Visit>
void ForEachChunk(std::span<char> bytes, Visit visit) {
  const int64_t size = static_cast<int64_t>(bytes.size());
  int64_t begin = 0;
  do {
    const int64_t chunk = std::min(kChunkBytes, size - begin);
    visit(bytes.data() + begin, static_cast<int>(chunk));
    begin += chunk;
  } while (begin < size);
}

Ticket MpiComm::NewSlot(const char* operation) {
  auto free = std::find_if(slots_.begin(), slots_.end(), [](const auto& slot) { return !slot->operation; });
  if (free == slots_.end()) free = slots_.insert(free, std::make_unique<Slot>());
  (*free)->operation = operation;
  return {static_cast<int32_t>(free - slots_.begin())};
}

// The place of the next request of a slot: valid until the next call.
MPI_Request* MpiComm::NewRequest(Slot& slot, int expected) {
  slot.expected.push_back(expected);
  return &slot.requests.emplace_back(MPI_REQUEST_NULL);
}

void MpiComm::Send(Slot& slot, std::span<char> bytes, int to, int tag) {
  ForEachChunk(bytes, [&](char* data, int count) {
    Check(MPI_Isend(data, count, MPI_BYTE, to, tag, handle_, NewRequest(slot)), slot.operation);
  });
}

void MpiComm::Receive(Slot& slot, std::span<char> bytes, int from, int tag) {
  ForEachChunk(bytes, [&](char* data, int count) {
    Check(MPI_Irecv(data, count, MPI_BYTE, from, tag, handle_, NewRequest(slot, count)), slot.operation);
  });
}

Ticket MpiComm::BeginAllToAll(Stream&, Tensor send, std::span<const int64_t> send_offsets, Tensor receive,
                              std::span<const int64_t> receive_offsets) {
  const Ticket ticket = NewSlot("AllToAll");
  Slot& slot = *slots_[ticket.id];
  const auto target = [&](int r) { return Rows(receive, receive_offsets[r], receive_offsets[r + 1]); };
  const auto source = [&](int r) { return Rows(send, send_offsets[r], send_offsets[r + 1]); };
  // From the next rank on, so that not all send to rank 0 first; receives stand before sends, so that nothing is
  // buffered.
  for (int k = 1; k < size(); ++k) {
    const int from = (rank() + size() - k) % size();
    Receive(slot, target(from), from, kExchangeTag);
  }
  for (int k = 1; k < size(); ++k) {
    const int to = (rank() + k) % size();
    Send(slot, source(to), to, kExchangeTag);
  }
  const std::span<char> own = source(rank());
  CHECK_EQ(own.size(), target(rank()).size());
  if (!own.empty()) std::memcpy(target(rank()).data(), own.data(), own.size());
  return ticket;
}

Ticket MpiComm::BeginAllGather(Stream&, Tensor x, std::span<const int64_t> offsets) {
  const Ticket ticket = NewSlot("AllGather");
  Slot& slot = *slots_[ticket.id];
  const auto part = [&](int r) { return Rows(x, offsets[r], offsets[r + 1]); };
  for (int k = 1; k < size(); ++k) {
    const int from = (rank() + size() - k) % size();
    Receive(slot, part(from), from, kExchangeTag);
  }
  for (int k = 1; k < size(); ++k) Send(slot, part(rank()), (rank() + k) % size(), kExchangeTag);
  return ticket;
}

Ticket MpiComm::BeginReduceScatter(Stream&, Tensor x, std::span<const int64_t> offsets) {
  const Ticket ticket = NewSlot("ReduceScatter");
  Slot& slot = *slots_[ticket.id];
  for (int owner = 0; owner < size(); ++owner) {
    ForEachChunk(Rows(x, offsets[owner], offsets[owner + 1]), [&](char* data, int bytes) {
      const bool here = owner == rank();
      const int count = bytes / static_cast<int>(SizeOf(x.dtype));
      Check(MPI_Ireduce(here ? MPI_IN_PLACE : data, here ? data : nullptr, count, MpiType(x.dtype), MPI_SUM, owner,
                        handle_, NewRequest(slot)),
            slot.operation);
    });
  }
  return ticket;
}

Ticket MpiComm::BeginAllReduce(Stream&, Tensor x, Reduction reduction) {
  const Ticket ticket = NewSlot("AllReduce");
  Slot& slot = *slots_[ticket.id];
  ForEachChunk(AllRows(x), [&](char* data, int bytes) {
    Check(MPI_Iallreduce(MPI_IN_PLACE, data, bytes / static_cast<int>(SizeOf(x.dtype)), MpiType(x.dtype),
                         reduction == Reduction::kSum ? MPI_SUM : MPI_MAX, handle_, NewRequest(slot)),
          slot.operation);
  });
  return ticket;
}

Ticket MpiComm::BeginBroadcast(Stream&, Tensor x, int root) {
  const Ticket ticket = NewSlot("Broadcast");
  Slot& slot = *slots_[ticket.id];
  ForEachChunk(AllRows(x), [&](char* data, int bytes) {
    Check(MPI_Ibcast(data, bytes, MPI_BYTE, root, handle_, NewRequest(slot)), slot.operation);
  });
  return ticket;
}

Ticket MpiComm::BeginSend(Stream&, Tensor x, int to, int tag) {
  const Ticket ticket = NewSlot("Send");
  Send(*slots_[ticket.id], AllRows(x), to, tag);
  return ticket;
}

Ticket MpiComm::BeginReceive(Stream&, Tensor x, int from, int tag) {
  const Ticket ticket = NewSlot("Receive");
  Receive(*slots_[ticket.id], AllRows(x), from, tag);
  return ticket;
}

void MpiComm::Wait(Stream&, Ticket ticket) {
  CHECK(ticket && ticket.id < static_cast<int64_t>(slots_.size()) && slots_[ticket.id]->operation);
  Slot& slot = *slots_[ticket.id];
  for (size_t i = 0; i < slot.requests.size(); ++i) {
    // One by one: MPI_Waitall of Open MPI 4.1 may spin for ever if a message is longer than its buffer. Each makes
    // progress on all.
    MPI_Status status;
    Check(MPI_Wait(&slot.requests[i], &status), slot.operation);
    if (slot.expected[i] >= 0) CheckArrival(slot, status, slot.expected[i]);
  }
  slot.operation = nullptr;
  slot.requests.clear();
  slot.expected.clear();
}

void MpiComm::CheckArrival(const Slot& slot, const MPI_Status& status, int expected) const {
  int bytes = 0;
  Check(MPI_Get_count(&status, MPI_BYTE, &bytes), slot.operation);
  if (bytes == expected) return;
  Fail(slot.operation, absl::StrFormat("rank %d sends %d bytes to rank %d, which expects %d", status.MPI_SOURCE, bytes,
                                       rank(), expected));
}

std::unique_ptr<Comm> MpiComm::Split(int color, std::string name) {
  MPI_Comm part = MPI_COMM_NULL;
  Check(MPI_Comm_split(handle_, color < 0 ? MPI_UNDEFINED : color, rank(), &part), "Split");
  if (part == MPI_COMM_NULL) return nullptr;
  return Make(part, std::move(name));
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start() {
  int provided = MPI_THREAD_SINGLE;
  const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  if (code != MPI_SUCCESS) return absl::UnavailableError("MPI does not start: " + ErrorText(code));
  std::unique_ptr<MpiSession> session(new MpiSession);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (provided < MPI_THREAD_FUNNELED) {
    return absl::FailedPreconditionError(
        "this MPI was built without support for programs with threads (it provides MPI_THREAD_SINGLE, and "
        "MPI_THREAD_FUNNELED is needed); use another build of it, such as Debian's libopenmpi");
  }
  return session;
}

MpiSession::~MpiSession() { MPI_Finalize(); }

std::unique_ptr<Comm> MpiSession::MakeWorld() {
  MPI_Comm world = MPI_COMM_NULL;
  const int code = MPI_Comm_dup(MPI_COMM_WORLD, &world);
  if (code != MPI_SUCCESS) core::Fatal("communicator world: " + ErrorText(code));
  return MpiComm::Make(world, "world");
}

std::unique_ptr<Comm> MpiSession::MakeNode() {
  MPI_Comm node = MPI_COMM_NULL;
  const int code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  if (code != MPI_SUCCESS) core::Fatal("communicator node: " + ErrorText(code));
  return MpiComm::Make(node, "node");
}

void MpiSession::Abort() {
  // MPI_Abort may hang, in a thread that MPI does not expect or behind a lost connection. Then the alarm ends this
  // process, and the launcher, which sees that, the others.
  std::signal(SIGALRM, SIG_DFL);
  alarm(2);
  MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
  _exit(EXIT_FAILURE);
}

#endif

}  // namespace conclave::parallel
