// SPDX-License-Identifier: Apache-2.0
// The files in configs/ are whole, and fit the ranks that their first lines start them with.
#include <filesystem>
#include <regex>

#include <gtest/gtest.h>

#include "core/config/recipe.h"
#include "optim/trainer.h"
#include "parallel/layout.h"
#include "parallel/mesh.h"
#include "parallel/partition.h"
#include "parallel/schedule.h"
#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

// "mpirun -n 32 conclave ...", "srun --mpi=pmix -n 2048 conclave ..."; else one.
int RanksOf(const std::string& text) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(R"(-n (\d+) conclave train)")) ? std::stoi(match[1]) : 1;
}

void ExpectFitsRanks(const core::Config& config, int ranks) {
  const auto mesh = parallel::Mesh::Create(
      {.pipeline = static_cast<int>(config.parallel.pipeline), .expert = static_cast<int>(config.parallel.expert)},
      ranks);
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  if (ranks == 1) return;
  ASSERT_FALSE(config.parallel.schedule.empty());
  const parallel::ScheduleShape largest{mesh->shape().pipeline, 1 << 10,
                                        static_cast<int>(config.parallel.virtual_stages)};
  const auto parts = parallel::CutIntoStages(config.model, config.data.sequence_length,
                                             parallel::NumStages(config.parallel.schedule, largest));
  EXPECT_TRUE(parts.ok()) << parts.status();
  for (const int64_t rows : optim::BatchRows(config.batch)) {
    const parallel::BatchSplit split{rows, mesh->shape().data, config.batch.micro_sequences};
    const absl::Status shape =
        parallel::CheckShape(config.parallel.schedule, {mesh->shape().pipeline, static_cast<int>(split.NumMicro()), 2});
    ASSERT_TRUE(shape.ok()) << rows << " rows: " << shape;
  }
}

TEST(Configs, AreWholeAndFitTheirRanks) {
  int num_configs = 0, on_many_ranks = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CONCLAVE_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    SCOPED_TRACE(entry.path().string());
    const auto recipe = core::LoadRecipe(entry.path().string(), {});
    ASSERT_TRUE(recipe.ok()) << recipe.status();
    const int ranks = RanksOf(ReadFile(entry.path().string()));
    for (const core::StagePlan& plan : recipe->stages) ExpectFitsRanks(plan.config, ranks);
    ++num_configs;
    on_many_ranks += ranks > 1;
  }
  EXPECT_GE(num_configs, 8);
  EXPECT_GE(on_many_ranks, 4);
}

}  // namespace
}  // namespace conclave::launch
