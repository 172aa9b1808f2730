// SPDX-License-Identifier: Apache-2.0
// Names for ranks: pipeline x data, and experts as a second cut of the data ranks. With replicas = data / expert,
//
//   rank = (pipeline rank * replicas + replica) * expert + expert rank,   data rank = replica * expert + expert rank,
//
// so those that exchange tokens are neighbours, and on one host first.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "parallel/comm.h"

namespace conclave::parallel {

// Ranks along each axis; expert divides data.
struct MeshShape {
  int pipeline = 1;
  int data = 0;  // 0: all that pipeline leaves
  int expert = 1;
  bool operator==(const MeshShape&) const = default;
};

// Where a rank stands.
struct MeshPlace {
  int pipeline = 0, data = 0;  // data = replica * shape.expert + expert
  int replica = 0, expert = 0;
  bool operator==(const MeshPlace&) const = default;
};

class Mesh {
 public:
  // An error names the keys (parallel.pipeline, ...) and values near them that fit.
  static absl::StatusOr<Mesh> Create(const MeshShape& shape, int world_size);

  const MeshShape& shape() const { return shape_; }  // data filled in
  int size() const { return shape_.pipeline * shape_.data; }
  int replicas() const { return shape_.data / shape_.expert; }

  MeshPlace PlaceOf(int rank) const;
  int RankAt(int pipeline, int data) const { return pipeline * shape_.data + data; }
  // "pipeline 1, data 3 (replica 1, expert rank 1)", without the axes that have one rank.
  std::string PlaceText(int rank) const;
  // A row per pipeline rank, a column per data rank, bars between replicas; the middle of more than 64 ranks left out.
  std::string ToText() const;

 private:
  explicit Mesh(const MeshShape& shape) : shape_(shape) {}
  MeshShape shape_;
};

// The groups of one rank, each with a communicator of its own.
struct MeshComms {
  std::unique_ptr<Comm> all;       // the whole mesh
  std::unique_ptr<Comm> pipeline;  // same data rank
  std::unique_ptr<Comm> data;      // same pipeline rank
  std::unique_ptr<Comm> expert;    // same pipeline rank and replica
  // The expert group cut by hosts, for an exchange in two hops; null where one host has the whole group, or one rank.
  std::unique_ptr<Comm> expert_inter;  // the ranks of the same index on every host
  std::unique_ptr<Comm> expert_intra;  // the ranks of this host
};

// Collective over the world, which has mesh.size() ranks. `ranks_per_host`: consecutive ones; those that do not divide
// the expert axis make no groups of hosts.
MeshComms SplitByMesh(Comm& world, const Mesh& mesh, int ranks_per_host);

}  // namespace conclave::parallel
