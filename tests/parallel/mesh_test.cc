// SPDX-License-Identifier: Apache-2.0
#include "parallel/mesh.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "parallel/rank_ranges.h"
#include "tests/support/run_ranks.h"

namespace conclave::parallel::test {
namespace {

Mesh MeshOf(const MeshShape& shape, int world_size) {
  absl::StatusOr<Mesh> mesh = Mesh::Create(shape, world_size);
  EXPECT_TRUE(mesh.ok()) << mesh.status();
  return *std::move(mesh);
}

std::string ErrorOf(const MeshShape& shape, int world_size) {
  return std::string(Mesh::Create(shape, world_size).status().message());
}

TEST(Mesh, GivesEveryRankAPlaceOfItsOwnByTheFormula) {
  for (const MeshShape& shape : std::vector<MeshShape>{{1, 1, 1}, {2, 6, 3}, {3, 8, 2}, {4, 4, 4}, {1, 6, 1}}) {
    const Mesh mesh = MeshOf(shape, shape.pipeline * shape.data);
    EXPECT_EQ(mesh.replicas(), shape.data / shape.expert);
    std::set<std::pair<int, int>> places;
    for (int rank = 0; rank < mesh.size(); ++rank) {
      const MeshPlace place = mesh.PlaceOf(rank);
      EXPECT_EQ(rank, (place.pipeline * mesh.replicas() + place.replica) * shape.expert + place.expert);
      EXPECT_EQ(place.data, place.replica * shape.expert + place.expert);
      EXPECT_LT(place.expert, shape.expert);
      EXPECT_EQ(mesh.RankAt(place.pipeline, place.data), rank);
      places.insert({place.pipeline, place.data});
    }
    EXPECT_EQ(places.size(), static_cast<size_t>(mesh.size()));
  }
}

TEST(Mesh, FillsTheDataAxisWithWhatIsLeft) {
  EXPECT_EQ(MeshOf({.pipeline = 2, .expert = 2}, 8).shape(), (MeshShape{2, 4, 2}));
  EXPECT_EQ(MeshOf({}, 1).shape(), (MeshShape{1, 1, 1}));
}

TEST(Mesh, TellsWhichShapeWouldFit) {
  EXPECT_EQ(
      ErrorOf({.pipeline = 3, .expert = 2}, 8),
      "8 ranks do not fit parallel.pipeline=3 x parallel.expert=2: that takes a multiple of 6; start so many, or set "
      "e.g. parallel.pipeline=2");
  EXPECT_EQ(ErrorOf({.pipeline = 2, .data = 3, .expert = 1}, 8),
            "8 ranks do not fit parallel.pipeline=2 x parallel.data=3: that takes 6; start so many, or set e.g. "
            "parallel.data=4");
  EXPECT_EQ(
      ErrorOf({.pipeline = 2, .expert = 8}, 1),
      "1 rank does not fit parallel.pipeline=2 x parallel.expert=8: that takes a multiple of 16; start so many, or "
      "set e.g. parallel.pipeline=1 parallel.expert=1");
  EXPECT_EQ(ErrorOf({.pipeline = 1, .data = 6, .expert = 4}, 6),
            "parallel.expert=4 does not divide parallel.data=6: experts are cut over the data ranks");
  EXPECT_NE(ErrorOf({.pipeline = 0}, 6).find("axes have 1 rank or more"), std::string::npos);
  EXPECT_NE(ErrorOf({.data = -1}, 6).find("axes have 1 rank or more"), std::string::npos);
}

// What is suggested must itself be accepted.
TEST(Mesh, SuggestsWhatFits) {
  for (int world = 1; world <= 12; ++world) {
    for (int pipeline = 1; pipeline <= 5; ++pipeline) {
      for (int expert = 1; expert <= 5; ++expert) {
        MeshShape shape = {pipeline, 0, expert};
        const std::string error = ErrorOf(shape, world);
        const auto apply = [&](const std::string& key, int& value) {
          const size_t at = error.find(key, error.find("e.g."));
          if (at != std::string::npos) value = std::stoi(error.substr(at + key.size()));
        };
        if (error.empty()) continue;
        apply("parallel.pipeline=", shape.pipeline);
        apply("parallel.expert=", shape.expert);
        EXPECT_EQ(ErrorOf(shape, world), "") << "after: " << error;
      }
    }
  }
}

TEST(Mesh, NamesThePlaceOfARank) {
  EXPECT_EQ(MeshOf({2, 4, 2}, 8).PlaceText(7), "pipeline 1, data 3 (replica 1, expert rank 1)");
  EXPECT_EQ(MeshOf({2, 2, 1}, 4).PlaceText(2), "pipeline 1, data 0");
  EXPECT_EQ(MeshOf({1, 2, 1}, 2).PlaceText(1), "data 1");
  EXPECT_EQ(MeshOf({4, 1, 1}, 4).PlaceText(3), "pipeline 3");
  EXPECT_EQ(MeshOf({1, 1, 1}, 1).PlaceText(0), "");
}

TEST(Mesh, IsDrawnWithBarsBetweenReplicas) {
  EXPECT_EQ(MeshOf({2, 4, 2}, 8).ToText(),
            "data             0   1 |   2   3\n"
            "pipeline 0       0   1 |   2   3\n"
            "pipeline 1       4   5 |   6   7\n");
}

TEST(Mesh, IsDrawnWithoutItsMiddleWhereItIsLarge) {
  EXPECT_EQ(MeshOf({8, 256, 64}, 2048).ToText(),
            "data              0    1    2    3    4    5    6    7    8  ...  255\n"
            "pipeline 0        0    1    2    3    4    5    6    7    8  ...  255\n"
            "pipeline 1      256  257  258  259  260  261  262  263  264  ...  511\n"
            "pipeline 2      512  513  514  515  516  517  518  519  520  ...  767\n"
            "...\n"
            "pipeline 7     1792 1793 1794 1795 1796 1797 1798 1799 1800  ... 2047\n");
}

TEST(SplitByMesh, MakesAGroupForEachAxis) {
  RunRanks(8, [](Comm& world) {
    const Mesh mesh = MeshOf({2, 4, 2}, 8);
    const MeshPlace place = mesh.PlaceOf(world.rank());
    const MeshComms comms = SplitByMesh(world, mesh, 8);
    const auto ranks = [&](Comm& comm) { return comm.GatherTexts(std::to_string(world.rank())); };
    EXPECT_EQ(comms.all->rank(), world.rank());
    EXPECT_EQ(comms.all->size(), 8);
    EXPECT_EQ(comms.pipeline->rank(), place.pipeline);
    EXPECT_EQ(comms.data->rank(), place.data);
    EXPECT_EQ(comms.expert->rank(), place.expert);
    const std::vector<std::string> pipeline = ranks(*comms.pipeline), data = ranks(*comms.data),
                                   expert = ranks(*comms.expert);
    EXPECT_EQ(comms.expert_inter, nullptr);  // all of it is on one host
    if (world.rank() != 6) return;
    EXPECT_EQ(pipeline, (std::vector<std::string>{"2", "6"}));
    EXPECT_EQ(data, (std::vector<std::string>{"4", "5", "6", "7"}));
    EXPECT_EQ(expert, (std::vector<std::string>{"6", "7"}));
  });
}

TEST(SplitByMesh, CutsTheExpertGroupByHosts) {
  RunRanks(8, [](Comm& world) {
    const Mesh mesh = MeshOf({.pipeline = 1, .expert = 8}, 8);
    for (int ranks_per_host : {1, 3, 8}) {  // one each; not a divisor; all on one
      EXPECT_EQ(SplitByMesh(world, mesh, ranks_per_host).expert_intra, nullptr);
    }
    const MeshComms comms = SplitByMesh(world, mesh, 4);
    ASSERT_NE(comms.expert_inter, nullptr);
    const std::vector<std::string> inter = comms.expert_inter->GatherTexts(std::to_string(world.rank()));
    const std::vector<std::string> intra = comms.expert_intra->GatherTexts(std::to_string(world.rank()));
    if (world.rank() != 5) return;
    EXPECT_EQ(inter, (std::vector<std::string>{"1", "5"}));
    EXPECT_EQ(intra, (std::vector<std::string>{"4", "5", "6", "7"}));
  });
}

TEST(RankRanges, JoinConsecutiveNumbers) {
  EXPECT_EQ(RangesText(std::vector<int>{}), "");
  EXPECT_EQ(RangesText(std::vector<int>{0, 1, 2, 3, 7, 9, 10}), "0-3, 7, 9-10");
}

TEST(RankRanges, ListHostsByTheirFirstRank) {
  EXPECT_EQ(HostRangesText(std::vector<std::string>{"b", "b", "a", "b", "a"}), "b: 0-1, 3; a: 2, 4");
  EXPECT_EQ(HostRangesText(std::vector<std::string>{}), "");
  std::vector<std::string> many;
  for (int rank = 0; rank < 24; ++rank) many.push_back("n" + std::to_string(rank / 2));
  EXPECT_EQ(HostRangesText(many),
            "n0: 0-1; n1: 2-3; n2: 4-5; n3: 6-7; n4: 8-9; n5: 10-11; ...; n10: 20-21; n11: 22-23");
  many.resize(16);
  EXPECT_EQ(HostRangesText(many).find("..."), std::string::npos);
}

}  // namespace
}  // namespace conclave::parallel::test
