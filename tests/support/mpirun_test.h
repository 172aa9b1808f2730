// SPDX-License-Identifier: Apache-2.0
// Tests that start ranks with mpirun: skipped where there is none.
#pragma once

#include <stdlib.h>

#include "gtest/gtest.h"

namespace conclave::testing {

class MpirunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::system("mpirun --version > /dev/null 2>&1") != 0) {
      GTEST_SKIP() << "mpirun is not installed (openmpi-bin)";
    }
    // Open MPI refuses root and more ranks than cores; in containers its copies between processes may be forbidden.
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    ::setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
    ::setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);
  }
};

}  // namespace conclave::testing
