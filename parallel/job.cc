// SPDX-License-Identifier: Apache-2.0
#include "parallel/job.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "parallel/rank_ranges.h"

namespace conclave::parallel {
namespace {

using core::DType;
using core::Stream;
using core::Tensor;

constexpr char kAgreed[] = "conclave/agreed", kReported[] = "conclave/reported";

std::optional<int> NumberIn(const char* variable) {
  const char* text = std::getenv(variable);
  int number = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &number)) return std::nullopt;
  return number;
}

// What a launcher has announced in the environment. Open MPI's variables come first: under mpirun inside of a Slurm
// job, Slurm's describe mpirun.
struct Launch {
  bool for_mpi = false;  // MPI can find its peers
  std::optional<int> ranks;
};

Launch ReadLaunch() {
  for (const char* size : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (const std::optional<int> ranks = NumberIn(size)) return {true, ranks};
  }
  return {std::getenv("PMIX_RANK") != nullptr, NumberIn("SLURM_STEP_NUM_TASKS")};
}

std::string HostName() {
  char name[256] = "";
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "unknown host";
  return name;
}

// Of the file that runs; empty if it cannot be read.
std::string ExecutableHash() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen("/proc/self/exe", "rb"), std::fclose);
  if (!file) return "";
  core::Hasher hasher;
  std::vector<char> block(1 << 20);
  while (const size_t bytes = std::fread(block.data(), 1, block.size(), file.get())) hasher.Update(block.data(), bytes);
  return hasher.HexDigest();
}

bool IsAgreed(const absl::Status& status) { return status.GetPayload(kAgreed).has_value(); }

// Code and payloads of a status, for other ranks: they act on an error alike, whoever has met it.
std::string Kind(const absl::Status& status) {
  std::string text = absl::StrCat(static_cast<int>(status.code()));
  status.ForEachPayload([&](absl::string_view key, const absl::Cord& value) {
    absl::StrAppend(&text, std::string(1, '\0'), key, std::string(1, '\0'), std::string(value));
  });
  return text;
}

absl::Status StatusOfKind(const std::string& kind, std::string_view message) {
  const std::vector<std::string> fields = absl::StrSplit(kind, '\0');
  int code = 0;
  CHECK(absl::SimpleAtoi(fields[0], &code));
  absl::Status status(static_cast<absl::StatusCode>(code), absl::string_view(message.data(), message.size()));
  for (size_t i = 1; i + 1 < fields.size(); i += 2) status.SetPayload(fields[i], absl::Cord(fields[i + 1]));
  return status;
}

// "line 3 is `b`, on rank 0 `a`"; the texts differ.
std::string FirstDifference(std::string_view text, std::string_view of_rank_0) {
  const auto lines = [](std::string_view all) {
    return std::vector<std::string>(absl::StrSplit(absl::string_view(all.data(), all.size()), '\n'));
  };
  const std::vector<std::string> here = lines(text), there = lines(of_rank_0);
  const auto line = [](const std::vector<std::string>& of, size_t i) {
    return i < of.size() ? absl::StrCat("`", of[i].substr(0, 200), "`") : std::string("missing");
  };
  size_t i = 0;
  while (i < here.size() && i < there.size() && here[i] == there[i]) ++i;
  return absl::StrFormat("line %d is %s, on rank 0 %s", i + 1, line(here, i), line(there, i));
}

}  // namespace

bool IsReported(const absl::Status& status) { return status.GetPayload(kReported).has_value(); }

absl::StatusOr<std::unique_ptr<Job>> Job::Start() {
  const Launch launch = ReadLaunch();
  if (launch.ranks.value_or(1) > 1 && !launch.for_mpi) {
    return absl::FailedPreconditionError(
        absl::StrFormat("srun has started %d tasks, but not in a way in which MPI finds its peers, so each would train "
                        "alone; use srun --mpi=pmix, or mpirun",
                        *launch.ranks));
  }
  if (!launch.for_mpi || launch.ranks == 1) return OnThreads(MakeSelfComm());
  ASSIGN_OR_RETURN(std::unique_ptr<MpiSession> session, MpiSession::Start());
  std::unique_ptr<Job> job(new Job(session->MakeWorld()));
  job->session_ = std::move(session);
  if (launch.ranks && *launch.ranks != job->world_->size()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the launcher has started %d ranks, but MPI sees %d: the program and the launcher belong to "
                        "different MPIs; use mpirun of the MPI that the program was built with (Open MPI), or srun "
                        "--mpi=pmix",
                        *launch.ranks, job->world_->size()));
  }
  job->FindHosts(*job->session_->MakeNode());
  core::SetAbortHook([job = job.get()](std::string_view message) {
    core::LogError(absl::StrFormat("%s: %s", job->WhoIsThis(), message));
    MpiSession::Abort();
  });
  RETURN_IF_ERROR(job->CheckSame("the program", "executable " + ExecutableHash()));
  return job;
}

std::unique_ptr<Job> Job::OnThreads(std::unique_ptr<Comm> world) {
  std::unique_ptr<Job> job(new Job(std::move(world)));
  job->FindHosts(*job->world_);
  return job;
}

Job::~Job() {
  if (session_) core::SetAbortHook(nullptr);
  world_.reset();
}

void Job::FindHosts(Comm& node) {
  hosts_ = world_->GatherTexts(HostName());
  local_rank_ = node.rank();
  local_size_ = node.size();
  Stream stream;
  const auto max_over = [&](Comm& comm, int64_t value) {
    comm.Wait(stream, comm.AllReduce(stream, Tensor(&value, DType::kI64, {1}), Reduction::kMax));
    return value;
  };
  const int64_t lowest = -max_over(node, -world_->rank());  // rank of this host
  const bool in_order =
      lowest == world_->rank() - world_->rank() % local_size_ && lowest + local_rank_ == world_->rank();
  const int64_t most = max_over(*world_, in_order ? local_size_ : INT64_MAX);
  const int64_t least = -max_over(*world_, -local_size_);
  ranks_per_host_ = most == least ? static_cast<int>(most) : 1;
}

std::string Job::WhoIsThis() const {
  const std::string who = absl::StrFormat("rank %d on %s", world_->rank(), host());
  return place_.empty() ? who : absl::StrFormat("%s (%s)", who, place_);
}

std::string Job::Describe() const {
  if (world_->size() == 1) return absl::StrFormat("1 rank on %s", host());
  const size_t num_hosts = std::set<std::string>(hosts_.begin(), hosts_.end()).size();
  return absl::StrFormat("%d ranks on %d host%s (%s)", world_->size(), num_hosts, num_hosts == 1 ? "" : "s",
                         HostRangesText(hosts_));
}

absl::Status Job::AgreeOn(const absl::Status& status) {
  const int rank = world_->rank(), size = world_->size();
  if (size == 1) return status;
  Stream stream;
  int64_t failing = status.ok() ? 0 : size - rank;  // the greatest is of the lowest rank
  world_->Wait(stream, world_->AllReduce(stream, Tensor(&failing, DType::kI64, {1}), Reduction::kMax));
  if (failing == 0) return absl::OkStatus();
  const int lowest = static_cast<int>(size - failing);
  const std::vector<std::string> kinds = world_->GatherTexts(rank == lowest ? Kind(status) : "");
  if (IsAgreed(status)) return status;  // it comes here again, and keeps its one message
  absl::Status agreed = rank == lowest ? StatusOfKind(kinds[rank], absl::StrCat(WhoIsThis(), ": ", status.message()))
                                       : StatusOfKind(kinds[lowest], absl::StrFormat("rank %d failed", lowest));
  agreed.SetPayload(kAgreed, absl::Cord());
  if (rank != lowest) agreed.SetPayload(kReported, absl::Cord());
  return agreed;
}

absl::Status Job::CheckSame(std::string_view what, std::string_view text) {
  core::Hasher hasher;
  hasher.Update(text.data(), text.size());
  const std::vector<std::string> hashes = world_->GatherTexts(hasher.HexDigest());
  std::vector<int> differing;
  for (int r = 0; r < world_->size(); ++r) {
    if (hashes[r] != hashes[0]) differing.push_back(r);
  }
  if (differing.empty()) return absl::OkStatus();
  const std::string first = world_->GatherTexts(world_->rank() == 0 ? text : std::string_view())[0];
  const bool tells = world_->rank() == differing[0];
  const std::string difference = world_->GatherTexts(tells ? FirstDifference(text, first) : "")[differing[0]];
  if (world_->rank() != 0) return AgreeOn(absl::OkStatus());
  const bool one = differing.size() == 1;
  return AgreeOn(absl::FailedPreconditionError(absl::StrFormat(
      "%s is not the same on all ranks: rank%s %s differ%s from rank 0; on rank %d (%s) %s. Start all ranks with the "
      "same "
      "files and options",
      what, one ? "" : "s", RangesText(differing), one ? "s" : "", differing[0], hosts_[differing[0]], difference)));
}

void Job::End(const absl::Status& status) const {
  if (status.ok() || world_->size() == 1 || IsAgreed(status)) return;
  core::Fatal(std::string_view(status.message().data(), status.message().size()));
}

}  // namespace conclave::parallel
