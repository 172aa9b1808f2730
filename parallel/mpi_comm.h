// SPDX-License-Identifier: Apache-2.0
// Ranks as processes that MPI has started. Everything is nonblocking and made of bytes or integers; only the thread
// that has started the session calls it (MPI_THREAD_FUNNELED).
#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "parallel/comm.h"

namespace conclave::parallel {

// From MPI_Init to MPI_Finalize; there is one in the life of a process.
class MpiSession {
 public:
  // An error if MPI cannot do what we need, or the program was built without it. A process that is not started by a
  // launcher of MPI becomes a world of one.
  static absl::StatusOr<std::unique_ptr<MpiSession>> Start();
  // Returns after all ranks have come here. Communicators must not be used any more, but may live on.
  ~MpiSession();

  // All ranks.
  std::unique_ptr<Comm> MakeWorld();
  // Collective: the ranks that share the memory of this one's machine.
  std::unique_ptr<Comm> MakeNode();
  // Ends the processes of all ranks with exit code 1, from any thread.
  [[noreturn]] static void Abort();

 private:
  MpiSession() = default;
};

}  // namespace conclave::parallel
