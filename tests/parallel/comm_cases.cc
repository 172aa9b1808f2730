// SPDX-License-Identifier: Apache-2.0
#include "tests/parallel/comm_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"

namespace conclave::parallel::test {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;

using Random = std::mt19937_64;  // seeded alike on all ranks

int64_t Draw(Random& random, int64_t bound) { return static_cast<int64_t>(random() % static_cast<uint64_t>(bound)); }

// What element i of row `row` is that `from` sends to `to` in round `round`.
int32_t Value(int round, int from, int to, int64_t row, int64_t i) {
  return static_cast<int32_t>((((round * 31 + from) * 31 + to) * 1009 + row) * 17 + i);
}

template <class T>
Tensor View(std::vector<T>& values, DType dtype, int64_t width) {
  return Tensor(values.data(), dtype, {static_cast<int64_t>(values.size()) / width, width});
}

std::vector<int64_t> OffsetsOf(const std::vector<int64_t>& counts, int64_t begin = 0) {
  std::vector<int64_t> offsets = {begin};
  for (int64_t count : counts) offsets.push_back(offsets.back() + count);
  return offsets;
}

// Rows to send and to receive of one all-to-all, with a guard row at both ends of the target.
struct Exchange {
  int round = 0;
  int64_t width = 1;
  std::vector<int64_t> send_counts, receive_counts;
  std::vector<int32_t> send, receive;
  Ticket ticket;

  Exchange(Comm& comm, int which, Random& random) : round(which), width(1 + Draw(random, 5)) {
    const int n = comm.size();
    const int64_t bound = Draw(random, 4) == 0 ? 1 : 1 + Draw(random, 40);  // a quarter of all exchanges is empty
    for (int from = 0; from < n; ++from) {
      for (int to = 0; to < n; ++to) {
        const int64_t count = Draw(random, 3) == 0 ? 0 : Draw(random, bound);
        if (from == comm.rank()) send_counts.push_back(count);
        if (to == comm.rank()) receive_counts.push_back(count);
      }
    }
    for (int to = 0; to < n; ++to) {
      for (int64_t row = 0; row < send_counts[to]; ++row) {
        for (int64_t i = 0; i < width; ++i) send.push_back(Value(round, comm.rank(), to, row, i));
      }
    }
    const int64_t rows = std::accumulate(receive_counts.begin(), receive_counts.end(), int64_t{2});
    receive.assign(rows * width, -1);
  }

  void Begin(Comm& comm, Stream& stream) {
    const Tensor source = send.empty() ? Tensor() : View(send, DType::kI32, width);
    ticket = comm.AllToAll(stream, source, OffsetsOf(send_counts), View(receive, DType::kI32, width),
                           OffsetsOf(receive_counts, 1));  // offsets die here: they are read at once
  }

  void Check(Comm& comm) const {
    std::vector<int32_t> expected(width, -1);
    for (int from = 0; from < comm.size(); ++from) {
      for (int64_t row = 0; row < receive_counts[from]; ++row) {
        for (int64_t i = 0; i < width; ++i) expected.push_back(Value(round, from, comm.rank(), row, i));
      }
    }
    expected.insert(expected.end(), width, -1);
    EXPECT_EQ(receive, expected) << "round " << round;
  }
};

void AllToAllMovesTheRowsOfEveryPair(Comm& comm) {
  Stream stream;
  Random random(1);
  for (int round = 0; round < 40; ++round) {
    Exchange exchange(comm, round, random);
    exchange.Begin(comm, stream);
    comm.Wait(stream, exchange.ticket);
    exchange.Check(comm);
  }
}

void AllToAllMovesNothingOfNullTensors(Comm& comm) {
  Stream stream;
  const std::vector<int64_t> offsets(comm.size() + 1, 0);
  comm.Wait(stream, comm.AllToAll(stream, Tensor(), offsets, Tensor(), offsets));
}

void AllGatherFillsTheRowsOfEveryRank(Comm& comm) {
  Stream stream;
  Random random(2);
  for (int round = 0; round < 20; ++round) {
    const int64_t width = 1 + Draw(random, 7);
    std::vector<int64_t> counts;
    for (int r = 0; r < comm.size(); ++r) counts.push_back(Draw(random, 4));
    const std::vector<int64_t> offsets = OffsetsOf(counts, 1);
    std::vector<uint8_t> x((offsets.back() + 1) * width, 255), expected = x;
    for (int r = 0; r < comm.size(); ++r) {
      for (int64_t i = offsets[r] * width; i < offsets[r + 1] * width; ++i) {
        expected[i] = static_cast<uint8_t>(Value(round, r, 0, 0, i) % 251);
        if (r == comm.rank()) x[i] = expected[i];
      }
    }
    comm.Wait(stream, comm.AllGather(stream, View(x, DType::kU8, width), offsets));
    EXPECT_EQ(x, expected) << "round " << round;
  }
}

// Integers whose sums wrap around, or any; floats whose sums are exact in any order.
template <class T>
T Element(Random& random) {
  if constexpr (std::is_floating_point_v<T>) return static_cast<T>(Draw(random, 2001) - 1000) * T(0.25);
  constexpr T kExtremes[] = {std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), 0, -1, 1};
  return random() % 2 == 0 ? kExtremes[random() % 5] : static_cast<T>(random());
}

template <class T>
T WrappingSum(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return a + b;
  } else {
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
  }
}

template <class T>
void CheckReduceScatter(Comm& comm, DType dtype) {
  Stream stream;
  Random random(3);
  for (int64_t width : {1, 3, 700}) {
    std::vector<int64_t> counts;
    for (int r = 0; r < comm.size(); ++r) counts.push_back(r % 3 == 1 ? 0 : 1 + Draw(random, 5));
    const std::vector<int64_t> offsets = OffsetsOf(counts);
    std::vector<T> sum(offsets.back() * width, 0), x = sum;
    for (int r = 0; r < comm.size(); ++r) {
      for (size_t i = 0; i < sum.size(); ++i) {
        const T element = Element<T>(random);
        sum[i] = WrappingSum(sum[i], element);
        if (r == comm.rank()) x[i] = element;
      }
    }
    comm.Wait(stream, comm.ReduceScatter(stream, View(x, dtype, width), offsets));
    const int64_t begin = offsets[comm.rank()] * width, end = offsets[comm.rank() + 1] * width;
    EXPECT_TRUE(std::equal(x.begin() + begin, x.begin() + end, sum.begin() + begin))
        << Name(dtype) << ", width " << width;
  }
}

void ReduceScatterSumsTheRowsOfEachRank(Comm& comm) {
  CheckReduceScatter<int64_t>(comm, DType::kI64);
  CheckReduceScatter<float>(comm, DType::kF32);
}

template <class T>
void CheckAllReduce(Comm& comm, DType dtype, Reduction reduction) {
  Stream stream;
  Random random(4);
  for (int64_t size : {0, 1, 2, 5, 64, 9000}) {
    std::vector<T> expected(size), x(size);
    for (int r = 0; r < comm.size(); ++r) {
      for (int64_t i = 0; i < size; ++i) {
        const T element = Element<T>(random);
        const T joined =
            reduction == Reduction::kSum ? WrappingSum(expected[i], element) : std::max(expected[i], element);
        expected[i] = r == 0 ? element : joined;
        if (r == comm.rank()) x[i] = element;
      }
    }
    comm.Wait(stream, comm.AllReduce(stream, Tensor(x.data(), dtype, {size}), reduction));
    EXPECT_EQ(x, expected) << size << " of " << Name(dtype);
  }
}

void AllReduceGivesSumsAndMaximaToEveryRank(Comm& comm) {
  for (Reduction reduction : {Reduction::kSum, Reduction::kMax}) {
    CheckAllReduce<int64_t>(comm, DType::kI64, reduction);
    CheckAllReduce<int32_t>(comm, DType::kI32, reduction);
    CheckAllReduce<float>(comm, DType::kF32, reduction);
  }
}

void BroadcastCopiesTheRootsTensor(Comm& comm) {
  Stream stream;
  for (int root = 0; root < comm.size(); ++root) {
    for (int64_t size : {0, 1, 1000}) {
      std::vector<int32_t> x(size, -1), expected;
      for (int64_t i = 0; i < size; ++i) expected.push_back(Value(0, root, 0, 0, i));
      if (comm.rank() == root) x = expected;
      comm.Wait(stream, comm.Broadcast(stream, Tensor(x.data(), DType::kI32, {size}), root));
      EXPECT_EQ(x, expected) << "root " << root;
    }
  }
}

struct Message {
  std::vector<int32_t> sent, received, expected;
  Ticket send, receive;
};

// Each rank to each, itself too, on two tags in another order than they are received; waits in an order of its own.
void MessagesOfOneTagArriveInOrder(Comm& comm) {
  Stream stream;
  constexpr int kMessages = 6;
  const auto length = [](int from, int to, int which) { return (from + to + which) % 4 == 0 ? 0 : 5 + which; };
  std::vector<Message> messages(comm.size() * kMessages);
  for (int peer = 0; peer < comm.size(); ++peer) {
    for (int which = 0; which < kMessages; ++which) {
      Message& message = messages[peer * kMessages + which];
      const int64_t out = length(comm.rank(), peer, which), in = length(peer, comm.rank(), which);
      for (int64_t i = 0; i < out; ++i) message.sent.push_back(Value(which, comm.rank(), peer, 0, i));
      for (int64_t i = 0; i < in; ++i) message.expected.push_back(Value(which, peer, comm.rank(), 0, i));
      message.received.resize(in);
      message.send = comm.Send(stream, Tensor(message.sent.data(), DType::kI32, {out}), peer, which % 2);
    }
  }
  std::vector<std::pair<Ticket, const Message*>> tickets;
  for (int tag : {1, 0}) {
    for (int index = tag; index < comm.size() * kMessages; index += 2) {
      Message& message = messages[index];
      const Tensor target(message.received.data(), DType::kI32, {static_cast<int64_t>(message.received.size())});
      message.receive = comm.Receive(stream, target, index / kMessages, tag);
      tickets.push_back({message.send, nullptr});
      tickets.push_back({message.receive, &message});
    }
  }
  Random own(comm.rank());
  std::shuffle(tickets.begin(), tickets.end(), own);
  for (const auto& [ticket, message] : tickets) {
    comm.Wait(stream, ticket);
    if (message) {
      EXPECT_EQ(message->received, message->expected);
    }
  }
}

void ManyOperationsInFlightEndInAnyOrderOfWaits(Comm& comm) {
  Stream stream;
  Random random(5), own(100 + comm.rank());
  const std::unique_ptr<Comm> twin = comm.Split(0, "twin");
  ASSERT_NE(twin, nullptr);
  for (int repeat = 0; repeat < 3; ++repeat) {
    constexpr int kExchanges = 12;
    std::vector<Exchange> exchanges;
    std::vector<std::vector<int64_t>> sums;
    for (int which = 0; which < kExchanges; ++which) exchanges.emplace_back(comm, which, random);
    std::vector<Ticket> sum_tickets;
    for (int which = 0; which < kExchanges; ++which) {
      exchanges[which].Begin(which % 2 == 0 ? comm : *twin, stream);
      sums.push_back({comm.rank() + which, 1});
      sum_tickets.push_back(comm.AllReduce(stream, Tensor(sums.back().data(), DType::kI64, {2}), Reduction::kSum));
    }
    std::vector<int> order(2 * kExchanges);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), own);
    for (int index : order) {
      const int which = index / 2;
      if (index % 2 == 0) {
        (which % 2 == 0 ? comm : *twin).Wait(stream, exchanges[which].ticket);
        exchanges[which].Check(comm);
      } else {
        comm.Wait(stream, sum_tickets[which]);
        const int64_t n = comm.size();
        EXPECT_EQ(sums[which], (std::vector<int64_t>{n * (n - 1) / 2 + n * which, n}));
      }
    }
  }
}

void SplitMakesGroupsOrderedByRank(Comm& comm) {
  Stream stream;
  const std::unique_ptr<Comm> parity = comm.Split(comm.rank() % 2, "parity");
  ASSERT_NE(parity, nullptr);
  EXPECT_EQ(parity->name(), "parity");
  EXPECT_EQ(parity->rank(), comm.rank() / 2);
  EXPECT_EQ(parity->size(), (comm.size() + 1 - comm.rank() % 2) / 2);
  int64_t sum = comm.rank();
  parity->Wait(stream, parity->AllReduce(stream, Tensor(&sum, DType::kI64, {1}), Reduction::kSum));
  int64_t expected = 0;
  for (int r = comm.rank() % 2; r < comm.size(); r += 2) expected += r;
  EXPECT_EQ(sum, expected);

  const std::unique_ptr<Comm> some = comm.Split(comm.rank() == 0 ? -1 : 7, "some");  // of the world, again
  EXPECT_EQ(some == nullptr, comm.rank() == 0);
  if (some) {
    EXPECT_EQ(some->size(), comm.size() - 1);
  }
  const std::unique_ptr<Comm> nested = parity->Split(0, "nested");
  EXPECT_EQ(nested->size(), parity->size());
  EXPECT_EQ(nested->GatherTexts("x").size(), static_cast<size_t>(parity->size()));
}

// The clock is that of the machine, which all ranks of a test share.
void BarrierHoldsAllUntilTheLast(Comm& comm) {
  const auto now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  for (int last = 0; last < comm.size(); ++last) {
    if (comm.rank() == last) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const int64_t entered = now();
    comm.Barrier();
    const int64_t left = now();
    for (const std::string& time : comm.GatherTexts(absl::StrFormat("%d", entered))) EXPECT_LE(std::stoll(time), left);
  }
}

void GatherTextsKeepsOrderLengthAndBytes(Comm& comm) {
  const auto text = [](int rank) { return std::string(rank * 3 % 7, static_cast<char>('a' + rank)) + '\0' + "\xff"; };
  const std::vector<std::string> texts = comm.GatherTexts(text(comm.rank()));
  ASSERT_EQ(texts.size(), static_cast<size_t>(comm.size()));
  for (int r = 0; r < comm.size(); ++r) EXPECT_EQ(texts[r], text(r));
  for (const std::string& empty : comm.GatherTexts("")) EXPECT_EQ(empty, "");
}

void BytesSentAreThoseThatLeaveTheRank(Comm& comm) {
  Stream stream;
  const int64_t n = comm.size(), rank = comm.rank();
  std::vector<int64_t> counts(n, 2);
  const std::vector<int64_t> offsets = OffsetsOf(counts);
  std::vector<int64_t> x(2 * n * 3), y(2 * n * 3);  // two rows of 24 bytes for each rank
  int64_t before = comm.bytes_sent();
  const auto sent = [&] { return comm.bytes_sent() - std::exchange(before, comm.bytes_sent()); };
  comm.Wait(stream, comm.AllToAll(stream, View(x, DType::kI64, 3), offsets, View(y, DType::kI64, 3), offsets));
  EXPECT_EQ(sent(), 48 * (n - 1));
  comm.Wait(stream, comm.AllGather(stream, View(x, DType::kI64, 3), offsets));
  EXPECT_EQ(sent(), 48 * (n - 1));
  comm.Wait(stream, comm.ReduceScatter(stream, View(x, DType::kI64, 3), offsets));
  EXPECT_EQ(sent(), 48 * (n - 1));
  comm.Wait(stream, comm.AllReduce(stream, View(x, DType::kI64, 3), Reduction::kSum));
  EXPECT_EQ(sent(), 2 * 48 * (n - 1));
  comm.Wait(stream, comm.Broadcast(stream, View(x, DType::kI64, 3), 0));
  EXPECT_EQ(sent(), rank == 0 ? 48 * n * (n - 1) : 0);
  const Ticket send = comm.Send(stream, View(x, DType::kI64, 3), static_cast<int>((rank + 1) % n), 0);
  comm.Wait(stream, comm.Receive(stream, View(y, DType::kI64, 3), static_cast<int>((rank + n - 1) % n), 0));
  comm.Wait(stream, send);
  EXPECT_EQ(sent(), n == 1 ? 0 : 48 * n);
  comm.Barrier();
  EXPECT_EQ(sent(), 0);
}

#define CASE(function) \
  { #function, function }
constexpr CommCase kCases[] = {
    CASE(AllToAllMovesTheRowsOfEveryPair),        CASE(AllToAllMovesNothingOfNullTensors),
    CASE(AllGatherFillsTheRowsOfEveryRank),       CASE(ReduceScatterSumsTheRowsOfEachRank),
    CASE(AllReduceGivesSumsAndMaximaToEveryRank), CASE(BroadcastCopiesTheRootsTensor),
    CASE(MessagesOfOneTagArriveInOrder),          CASE(ManyOperationsInFlightEndInAnyOrderOfWaits),
    CASE(SplitMakesGroupsOrderedByRank),          CASE(BarrierHoldsAllUntilTheLast),
    CASE(GatherTextsKeepsOrderLengthAndBytes),    CASE(BytesSentAreThoseThatLeaveTheRank),
};
#undef CASE

}  // namespace

std::span<const CommCase> CommCases() { return kCases; }

}  // namespace conclave::parallel::test
