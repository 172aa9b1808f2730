// SPDX-License-Identifier: Apache-2.0
// What a process knows when it starts: which rank of how many it is, and where. Started by mpirun or srun it is one of
// many and MPI is initialized, otherwise it is alone and MPI is not touched. A job ends in one of two ways: all ranks
// come to its end, in success or with an error that they have agreed on; or one rank ends all of them at once, with one
// message that says which and why. So a rank never waits for one that has failed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "parallel/comm.h"
#include "parallel/mpi_comm.h"

namespace conclave::parallel {

class Job {
 public:
  // Collective under a launcher. From then on a failed CHECK on one rank ends all ranks. An error, which all ranks get,
  // if the launcher and MPI do not find each other, or if ranks run different programs.
  static absl::StatusOr<std::unique_ptr<Job>> Start();
  // Collective: a job whose ranks are threads of this process.
  static std::unique_ptr<Job> OnThreads(std::unique_ptr<Comm> world);
  ~Job();  // collective: ends MPI
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  Comm& world() { return *world_; }
  const std::string& host() const { return hosts_[world_->rank()]; }
  const std::vector<std::string>& hosts() const { return hosts_; }  // by rank
  int local_rank() const { return local_rank_; }                    // among the ranks on this host
  int local_size() const { return local_size_; }
  // Ranks on each host, if all have equally many, numbered one host after the other; otherwise 1.
  int ranks_per_host() const { return ranks_per_host_; }

  // For messages, when it is known: "pipeline 1, data 0".
  void SetPlace(std::string place) { place_ = std::move(place); }
  // "rank 3 on node7 (pipeline 1, data 0)".
  std::string WhoIsThis() const;
  // "1 rank on node7", "8 ranks on 2 hosts (node1: 0-3; node2: 4-7)".
  std::string Describe() const;

  // Collective. OK if all are; otherwise an error on every rank. The lowest rank that brings one gets it with "rank R
  // on HOST: " before its message; the others get one of the same code and payloads that names rank R and IsReported.
  absl::Status AgreeOn(const absl::Status& status);
  // Collective. Compares a text of all ranks, say the config; an error, agreed on, tells who differs in which line.
  absl::Status CheckSame(std::string_view what, std::string_view text);
  // To be called last, with what this rank has come to: an error that the ranks have not agreed on ends all of them.
  void End(const absl::Status& status) const;

 private:
  explicit Job(std::unique_ptr<Comm> world) : world_(std::move(world)) {}
  void FindHosts(Comm& node);

  std::unique_ptr<MpiSession> session_;  // null: no MPI
  std::unique_ptr<Comm> world_;
  std::vector<std::string> hosts_;
  int local_rank_ = 0, local_size_ = 1, ranks_per_host_ = 1;
  std::string place_;
};

// Whether another rank prints the message of this error.
bool IsReported(const absl::Status& status);

}  // namespace conclave::parallel
