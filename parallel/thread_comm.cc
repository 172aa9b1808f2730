// SPDX-License-Identifier: Apache-2.0
// An operation is a set of tasks, each a copy from one member's buffer to another's or the sum of one slice of all.
// Members lay down their buffers when they begin; who waits performs the tasks that concern it, its own side first,
// then what its peers have left of the others. So a byte is copied once, Wait needs nothing of the peers but that they
// have begun, and any order of waits ends. A member whose tasks are in other hands sleeps on a condition variable.
#include "parallel/thread_comm.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/check.h"

namespace conclave::parallel {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;

enum class Kind : uint8_t { kAllToAll, kAllGather, kReduceScatter, kSum, kMax, kBroadcast, kMessage };

const char* Name(Kind kind) {
  switch (kind) {
    case Kind::kAllToAll:
      return "AllToAll";
    case Kind::kAllGather:
      return "AllGather";
    case Kind::kReduceScatter:
      return "ReduceScatter";
    case Kind::kSum:
      return "AllReduce of sums";
    case Kind::kMax:
      return "AllReduce of maxima";
    case Kind::kBroadcast:
      return "Broadcast";
    case Kind::kMessage:
      return "Send and Receive";
  }
  return "?";
}

// What one member brings to an operation.
struct Part {
  bool begun = false;
  Tensor send, receive;  // the same of operations in place
  std::vector<int64_t> send_offsets, receive_offsets;
};

enum class TaskState : uint8_t { kOpen, kTaken, kDone };

// Members are the ranks of the group; those of a message are its sender, 0, and its receiver, 1.
struct Operation {
  explicit Operation(int group_size);

  bool used = false;
  Kind kind = Kind::kBroadcast;
  int64_t number = 0;  // among the collectives of the group; of messages: the order of their beginnings
  int root = 0;        // member that sends, of broadcasts and messages
  int sender = 0, receiver = 0, tag = 0;  // of a message: ranks
  int size = 0;
  int num_begun = 0, num_over = 0;
  std::condition_variable changed;  // for members that wait: the last has begun, or tasks are done
  std::vector<Part> parts;          // by member; messages leave some unused
  // [sender * size + receiver] of copies; [slice] of sums: the rows of that member, or a share of all elements.
  std::vector<TaskState> tasks;

  bool Sums() const { return kind == Kind::kReduceScatter || kind == Kind::kSum || kind == Kind::kMax; }
  bool Ready(int task) const {
    return Sums() ? num_begun == size : parts[task / size].begun && parts[task % size].begun;
  }
  // The k-th task that concerns a member, what it receives first; -1 behind the last.
  int TaskOf(int member, int k) const {
    if (k >= (Sums() ? size : 2 * size)) return -1;
    const int peer = (member + k) % size;
    if (Sums()) return peer;
    return k < size ? peer * size + member : member * size + peer;
  }
  void Reset(Kind new_kind, int64_t new_number, int new_size, int new_root);
};

// All memory that any operation of the group needs: it is used again for others.
Operation::Operation(int group_size) : parts(std::max(group_size, 2)) {
  for (Part& part : parts) {
    part.send_offsets.reserve(group_size + 1);
    part.receive_offsets.reserve(group_size + 1);
  }
  tasks.reserve(parts.size() * parts.size());
}

void Operation::Reset(Kind new_kind, int64_t new_number, int new_size, int new_root) {
  used = true;
  kind = new_kind;
  number = new_number;
  root = new_root;
  size = new_size;
  num_begun = num_over = 0;
  for (Part& part : parts) part.begun = false;
  tasks.assign(size * size, TaskState::kOpen);
  if (Sums()) return;
  const bool has_root = kind == Kind::kBroadcast || kind == Kind::kMessage;
  for (int from = 0; from < size; ++from) {
    for (int to = 0; to < size; ++to) {
      const bool nothing = (has_root && from != root) || (from == to && kind != Kind::kAllToAll);
      if (nothing) tasks[from * size + to] = TaskState::kDone;
    }
  }
}

// What the members of one communicator share; all of it under the mutex, except the parts of a task that is taken.
struct Group {
  Group(int num_members, std::string group_name) : size(num_members), name(std::move(group_name)) {}

  Operation& FindCollective(Kind kind, int64_t number, int root);
  Operation& FindMessage(int sender, int receiver, int tag, int member);
  Operation& NewOperation(Kind kind, int64_t number, int num_members, int root);

  struct Child {
    std::shared_ptr<Group> group;
    int num_taken = 0;
  };

  const int size;
  const std::string name;
  std::mutex mutex;
  std::vector<std::unique_ptr<Operation>> operations;
  int64_t num_messages = 0;
  std::map<std::pair<int64_t, int>, Child> children;  // by split and color, until all of the child have it
};

Operation& Group::NewOperation(Kind kind, int64_t number, int num_members, int root) {
  auto free = std::find_if(operations.begin(), operations.end(), [](const auto& op) { return !op->used; });
  if (free == operations.end()) free = operations.insert(free, std::make_unique<Operation>(size));
  (*free)->Reset(kind, number, num_members, root);
  return **free;
}

Operation& Group::FindCollective(Kind kind, int64_t number, int root) {
  for (const auto& op : operations) {
    if (op->used && op->kind != Kind::kMessage && op->number == number) return *op;
  }
  return NewOperation(kind, number, size, root);
}

Operation& Group::FindMessage(int sender, int receiver, int tag, int member) {
  Operation* oldest = nullptr;
  for (const auto& op : operations) {
    if (!op->used || op->kind != Kind::kMessage || op->parts[member].begun) continue;
    if (op->sender != sender || op->receiver != receiver || op->tag != tag) continue;
    if (!oldest || op->number < oldest->number) oldest = op.get();
  }
  if (oldest) return *oldest;
  Operation& operation = NewOperation(Kind::kMessage, num_messages++, 2, 0);
  operation.sender = sender;
  operation.receiver = receiver;
  operation.tag = tag;
  return operation;
}

// Integers wrap around.
int64_t SumOf(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
int32_t SumOf(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
float SumOf(float a, float b) { return a + b; }

// target[i] becomes the sum (maximum) over it and the sources, which are other members' buffers of the same length;
// with kSum and kMax the sources become the same. In blocks, so that the target stays in the first cache.
template <class T>
void Reduce(const Operation& operation, int owner, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 8192 / sizeof(T);
  for (int64_t block = begin; block < end; block += kBlock) {
    const int64_t count = std::min(kBlock, end - block);
    T* target = operation.parts[owner].receive.As<T>() + block;
    for (int member = 0; member < operation.size; ++member) {
      if (member == owner) continue;
      const T* source = operation.parts[member].receive.As<T>() + block;
      if (operation.kind == Kind::kMax) {
        for (int64_t i = 0; i < count; ++i) target[i] = std::max(target[i], source[i]);
      } else {
        for (int64_t i = 0; i < count; ++i) target[i] = SumOf(target[i], source[i]);
      }
    }
    if (operation.kind == Kind::kReduceScatter) continue;
    for (int member = 0; member < operation.size; ++member) {
      if (member != owner) std::memcpy(operation.parts[member].receive.As<T>() + block, target, count * sizeof(T));
    }
  }
}

class ThreadComm final : public Comm {
 public:
  ThreadComm(std::shared_ptr<Group> group, int rank) : Comm(rank, group->size, group->name), group_(std::move(group)) {}

  void Wait(Stream& stream, Ticket ticket) override;
  void Barrier() override;
  std::unique_ptr<Comm> Split(int color, std::string name) override;

 protected:
  Ticket BeginAllToAll(Stream&, Tensor send, std::span<const int64_t> send_offsets, Tensor receive,
                       std::span<const int64_t> receive_offsets) override {
    return BeginCollective(Kind::kAllToAll, 0, {send, receive, send_offsets, receive_offsets});
  }
  Ticket BeginAllGather(Stream&, Tensor x, std::span<const int64_t> offsets) override {
    return BeginCollective(Kind::kAllGather, 0, {x, x, offsets, offsets});
  }
  Ticket BeginReduceScatter(Stream&, Tensor x, std::span<const int64_t> offsets) override {
    return BeginCollective(Kind::kReduceScatter, 0, {x, x, offsets, offsets});
  }
  Ticket BeginAllReduce(Stream&, Tensor x, Reduction reduction) override {
    return BeginCollective(reduction == Reduction::kSum ? Kind::kSum : Kind::kMax, 0, {x, x, {}, {}});
  }
  Ticket BeginBroadcast(Stream&, Tensor x, int root) override {
    return BeginCollective(Kind::kBroadcast, root, {x, x, {}, {}});
  }
  Ticket BeginSend(Stream&, Tensor x, int to, int tag) override { return BeginMessage(rank(), to, tag, 0, x); }
  Ticket BeginReceive(Stream&, Tensor x, int from, int tag) override { return BeginMessage(from, rank(), tag, 1, x); }

 private:
  struct Buffers {
    Tensor send, receive;
    std::span<const int64_t> send_offsets, receive_offsets;
  };
  // The operation of a ticket, and who in it this rank is.
  struct Pending {
    Operation* operation = nullptr;
    int member = 0;
  };

  Ticket BeginCollective(Kind kind, int root, const Buffers& buffers);
  Ticket BeginMessage(int sender, int receiver, int tag, int member, Tensor x);
  Ticket LayDown(Operation& operation, int member, const Buffers& buffers);  // the mutex is held
  void Perform(const Operation& operation, int task) const;
  void Copy(const Operation& operation, int from, int to) const;
  void Sum(const Operation& operation, int slice) const;

  std::shared_ptr<Group> group_;
  std::vector<Pending> pending_;  // by ticket
  int64_t num_collectives_ = 0, num_splits_ = 0;
};

Ticket ThreadComm::BeginCollective(Kind kind, int root, const Buffers& buffers) {
  const std::lock_guard lock(group_->mutex);
  const int64_t number = num_collectives_++;
  Operation& operation = group_->FindCollective(kind, number, root);
  if (operation.kind != kind || operation.root != root) {
    Fail(Name(kind), absl::StrFormat("as operation %d, while another rank has begun %s, or has another root", number,
                                     Name(operation.kind)));
  }
  return LayDown(operation, rank(), buffers);
}

Ticket ThreadComm::BeginMessage(int sender, int receiver, int tag, int member, Tensor x) {
  const std::lock_guard lock(group_->mutex);
  return LayDown(group_->FindMessage(sender, receiver, tag, member), member, {x, x, {}, {}});
}

Ticket ThreadComm::LayDown(Operation& operation, int member, const Buffers& buffers) {
  Part& part = operation.parts[member];
  part.begun = true;
  part.send = buffers.send;
  part.receive = buffers.receive;
  part.send_offsets.assign(buffers.send_offsets.begin(), buffers.send_offsets.end());
  part.receive_offsets.assign(buffers.receive_offsets.begin(), buffers.receive_offsets.end());
  ++operation.num_begun;
  // Before the last has begun, waiting members but those of a broadcast lack something.
  const bool all = operation.num_begun == operation.size;
  if (all || operation.kind == Kind::kBroadcast) operation.changed.notify_all();
  auto free = std::find_if(pending_.begin(), pending_.end(), [](const Pending& p) { return !p.operation; });
  if (free == pending_.end()) free = pending_.emplace(pending_.end());
  *free = {&operation, member};
  return {static_cast<int32_t>(free - pending_.begin())};
}

void ThreadComm::Wait(Stream&, Ticket ticket) {
  CHECK(ticket && ticket.id < static_cast<int64_t>(pending_.size()) && pending_[ticket.id].operation);
  const auto [operation, member] = std::exchange(pending_[ticket.id], Pending());
  std::unique_lock lock(group_->mutex);
  for (bool over = false; !over;) {
    over = true;
    bool performed = false;
    for (int k = 0, task; (task = operation->TaskOf(member, k)) >= 0; ++k) {
      if (operation->tasks[task] == TaskState::kOpen && operation->Ready(task)) {
        operation->tasks[task] = TaskState::kTaken;
        lock.unlock();
        Perform(*operation, task);
        lock.lock();
        operation->tasks[task] = TaskState::kDone;
        performed = true;
      }
      over = over && operation->tasks[task] == TaskState::kDone;
    }
    if (performed) {
      operation->changed.notify_all();
    } else if (!over) {
      operation->changed.wait(lock);
    }
  }
  if (++operation->num_over == operation->size) operation->used = false;
}

void ThreadComm::Perform(const Operation& operation, int task) const {
  if (operation.Sums()) {
    Sum(operation, task);
  } else {
    Copy(operation, task / operation.size, task % operation.size);
  }
}

void ThreadComm::Copy(const Operation& operation, int from, int to) const {
  const Part &source = operation.parts[from], &target = operation.parts[to];
  std::span<char> sent, received;
  switch (operation.kind) {
    case Kind::kAllToAll:
      sent = Rows(source.send, source.send_offsets[to], source.send_offsets[to + 1]);
      received = Rows(target.receive, target.receive_offsets[from], target.receive_offsets[from + 1]);
      break;
    case Kind::kAllGather:
      sent = Rows(source.send, source.send_offsets[from], source.send_offsets[from + 1]);
      received = Rows(target.receive, target.receive_offsets[from], target.receive_offsets[from + 1]);
      break;
    default:
      sent = AllRows(source.send);
      received = AllRows(target.receive);
  }
  if (sent.size() != received.size()) {
    const bool message = operation.kind == Kind::kMessage;
    Fail(Name(operation.kind),
         absl::StrFormat("rank %d sends %d bytes to rank %d, which expects %d", message ? operation.sender : from,
                         sent.size(), message ? operation.receiver : to, received.size()));
  }
  if (!sent.empty()) std::memcpy(received.data(), sent.data(), sent.size());
}

void ThreadComm::Sum(const Operation& operation, int slice) const {
  const Part& owner = operation.parts[slice];
  const std::span<char> whole = AllRows(owner.receive);
  const int64_t elements = static_cast<int64_t>(whole.size()) / SizeOf(owner.receive.dtype);
  int64_t begin = elements * slice / operation.size, end = elements * (slice + 1) / operation.size;
  if (operation.kind == Kind::kReduceScatter) {
    const int64_t row = RowBytes(owner.receive) / SizeOf(owner.receive.dtype);
    begin = owner.send_offsets[slice] * row;
    end = owner.send_offsets[slice + 1] * row;
  }
  for (int member = 0; member < operation.size; ++member) {
    if (AllRows(operation.parts[member].receive).size() != whole.size()) {
      Fail(Name(operation.kind), "the tensors of the ranks differ in size");
    }
  }
  if (elements == 0) return;
  if (owner.receive.dtype == DType::kI64) return Reduce<int64_t>(operation, slice, begin, end);
  if (owner.receive.dtype == DType::kI32) return Reduce<int32_t>(operation, slice, begin, end);
  Reduce<float>(operation, slice, begin, end);
}

void ThreadComm::Barrier() {
  Stream host;
  Wait(host, BeginCollective(Kind::kSum, 0, {}));
}

std::unique_ptr<Comm> ThreadComm::Split(int color, std::string name) {
  Stream host;
  std::vector<int64_t> colors(size()), offsets(size() + 1);
  for (int r = 0; r <= size(); ++r) offsets[r] = r;
  colors[rank()] = color;
  Wait(host, BeginAllGather(host, Tensor(colors.data(), DType::kI64, {size()}), offsets));
  const int64_t split = num_splits_++;
  if (color < 0) return nullptr;
  const int members = static_cast<int>(std::count(colors.begin(), colors.end(), color));
  const int new_rank = static_cast<int>(std::count(colors.begin(), colors.begin() + rank(), color));
  const std::lock_guard lock(group_->mutex);
  const auto [entry, added] = group_->children.try_emplace({split, color});
  Group::Child& child = entry->second;
  if (added) child.group = std::make_shared<Group>(members, std::move(name));
  std::shared_ptr<Group> group = child.group;
  if (++child.num_taken == members) group_->children.erase(entry);
  return std::make_unique<ThreadComm>(std::move(group), new_rank);
}

}  // namespace

std::vector<std::unique_ptr<Comm>> MakeThreadComms(int n) {
  CHECK_GE(n, 1);
  const auto group = std::make_shared<Group>(n, "world");
  std::vector<std::unique_ptr<Comm>> comms;
  for (int rank = 0; rank < n; ++rank) comms.push_back(std::make_unique<ThreadComm>(group, rank));
  return comms;
}

std::unique_ptr<Comm> MakeSelfComm() { return std::move(MakeThreadComms(1)[0]); }

}  // namespace conclave::parallel
