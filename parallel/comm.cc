// SPDX-License-Identifier: Apache-2.0
// What all transports share: contracts are checked and bytes counted in one place.
#include "parallel/comm.h"

#include "absl/strings/str_format.h"

#include "core/base/check.h"

namespace conclave::parallel {

using core::DType;
using core::Stream;
using core::Tensor;

int64_t RowBytes(const Tensor& x) {
  if (x.rank == 0) return 0;
  int64_t elements = 1;
  for (int dim = 1; dim < x.rank; ++dim) elements *= x.size(dim);
  return elements * SizeOf(x.dtype);
}

std::span<char> Rows(const Tensor& x, int64_t begin, int64_t end) {
  const int64_t row_bytes = RowBytes(x);
  if (begin == end || row_bytes == 0) return {};
  return {x.As<char>() + begin * row_bytes, static_cast<size_t>((end - begin) * row_bytes)};
}

std::span<char> AllRows(const Tensor& x) { return Rows(x, 0, x.rank == 0 ? 0 : x.size(0)); }

namespace {

int64_t NumBytes(const Tensor& x) { return x.rank == 0 ? 0 : x.Bytes(); }

void CheckRows(const Tensor& x) {
  CHECK(x.rank >= 1 || !x);
  CHECK(x.Contiguous());
  CHECK(x || NumBytes(x) == 0);
}

void CheckOffsets(const Tensor& x, std::span<const int64_t> offsets, int size) {
  CheckRows(x);
  CHECK_EQ(offsets.size(), size + 1);
  CHECK_GE(offsets[0], 0);
  for (int r = 0; r < size; ++r) CHECK_LE(offsets[r], offsets[r + 1]);
  CHECK_LE(offsets[size], x.rank == 0 ? 0 : x.size(0));
}

}  // namespace

Ticket Comm::AllToAll(Stream& stream, Tensor send, std::span<const int64_t> send_offsets, Tensor receive,
                      std::span<const int64_t> receive_offsets) {
  CheckOffsets(send, send_offsets, size_);
  CheckOffsets(receive, receive_offsets, size_);
  const int64_t own = send_offsets[rank_ + 1] - send_offsets[rank_];
  CHECK_EQ(own, receive_offsets[rank_ + 1] - receive_offsets[rank_]);
  bytes_sent_ += (send_offsets[size_] - send_offsets[0] - own) * RowBytes(send);
  return BeginAllToAll(stream, send, send_offsets, receive, receive_offsets);
}

Ticket Comm::AllGather(Stream& stream, Tensor x, std::span<const int64_t> offsets) {
  CheckOffsets(x, offsets, size_);
  bytes_sent_ += (size_ - 1) * (offsets[rank_ + 1] - offsets[rank_]) * RowBytes(x);
  return BeginAllGather(stream, x, offsets);
}

Ticket Comm::ReduceScatter(Stream& stream, Tensor x, std::span<const int64_t> offsets) {
  CheckOffsets(x, offsets, size_);
  CHECK(!x || x.dtype == DType::kI64 || x.dtype == DType::kF32);
  const int64_t own = offsets[rank_ + 1] - offsets[rank_];
  bytes_sent_ += (offsets[size_] - offsets[0] - own) * RowBytes(x);
  return BeginReduceScatter(stream, x, offsets);
}

Ticket Comm::AllReduce(Stream& stream, Tensor x, Reduction reduction) {
  CheckRows(x);
  CHECK(!x || x.dtype == DType::kI64 || x.dtype == DType::kI32 || x.dtype == DType::kF32);
  const int64_t bytes = NumBytes(x);
  bytes_sent_ += 2 * (bytes - bytes / size_);
  return BeginAllReduce(stream, x, reduction);
}

Ticket Comm::Broadcast(Stream& stream, Tensor x, int root) {
  CheckRows(x);
  CHECK(root >= 0 && root < size_);
  if (root == rank_) bytes_sent_ += (size_ - 1) * NumBytes(x);
  return BeginBroadcast(stream, x, root);
}

Ticket Comm::Send(Stream& stream, Tensor x, int to, int tag) {
  CheckRows(x);
  CHECK(to >= 0 && to < size_);
  CHECK(tag >= 0 && tag <= kMaxTag);
  if (to != rank_) bytes_sent_ += NumBytes(x);
  return BeginSend(stream, x, to, tag);
}

Ticket Comm::Receive(Stream& stream, Tensor x, int from, int tag) {
  CheckRows(x);
  CHECK(from >= 0 && from < size_);
  CHECK(tag >= 0 && tag <= kMaxTag);
  return BeginReceive(stream, x, from, tag);
}

std::vector<std::string> Comm::GatherTexts(std::string_view text) {
  Stream host;  // the calling thread's own
  std::vector<int64_t> lengths(size_), offsets(size_ + 1);
  for (int r = 0; r <= size_; ++r) offsets[r] = r;
  lengths[rank_] = static_cast<int64_t>(text.size());
  Wait(host, AllGather(host, Tensor(lengths.data(), DType::kI64, {size_}), offsets));
  for (int r = 0; r < size_; ++r) offsets[r + 1] = offsets[r] + lengths[r];
  std::string all(static_cast<size_t>(offsets[size_]), '\0');
  text.copy(all.data() + offsets[rank_], text.size());
  Wait(host, AllGather(host, Tensor(all.data(), DType::kU8, {offsets[size_]}), offsets));
  std::vector<std::string> texts;
  for (int r = 0; r < size_; ++r) texts.push_back(all.substr(offsets[r], lengths[r]));
  return texts;
}

void Comm::Fail(std::string_view operation, std::string_view text) const {
  core::Fatal(absl::StrFormat("communicator %s, rank %d of %d: %s: %s", name_, rank_, size_, operation, text));
}

}  // namespace conclave::parallel
