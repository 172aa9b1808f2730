// SPDX-License-Identifier: Apache-2.0
// Checkpoints: step_N/ is a Hugging Face folder plus optimizer/*.safetensors and manifest.pb. Written under a temporary
// name, every file checksummed and fsynced, the manifest last, then renamed: a folder without a valid manifest is never
// a checkpoint. State tensors are boxes of global tensors, so any layout can read what another wrote. Knows no mesh and
// no communication: what several writers tell each other is returned as text.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/safetensors.h"
#include "core/tensor/box.h"

namespace conclave::core {

// A box of a global tensor in memory (contiguous, the box's own shape). `data` is read by Save and written by Restore.
struct StateTensor {
  std::string name;            // global name, e.g. "model.norm.weight" or "optimizer.m.model.norm.weight"
  std::vector<int64_t> shape;  // of the global tensor
  Box box;
  DType dtype = DType::kF32;  // f32, bf16, i64
  void* data = nullptr;
};

struct CheckpointMeta {
  int64_t step = 0;
  int64_t data_position = 0;  // rows drawn so far
  uint64_t seed = 0;
  std::string config_yaml;       // resolved config of the run
  std::string device;            // instruction set, e.g. "cpu avx512_bf16"
  std::string precision;         // "f32", "bf16"
  std::string sample_chain;      // hash chain over the row ids drawn so far
  std::string data_fingerprint;  // of the rows that the run learns from; "": not known
  std::string program_version;
  std::vector<std::string> history;  // one line per start or resume: "step 0: new, cpu avx512_bf16, 2 threads"
};

// One of `count` shares of a piece of work, counted from 0: usually a rank's.
struct Part {
  int index = 0;
  int count = 1;
};

struct SaveRequest {
  std::string parent;  // run.dir/checkpoints
  CheckpointMeta meta;
  std::vector<StateTensor> weights;           // whole tensors under their Hugging Face names, f32 in memory
  DType weights_dtype = DType::kF32;          // f32 or bf16 on disk; tensors listed in keep_f32 stay f32
  std::vector<std::string> keep_f32;          // e.g. *.e_score_correction_bias
  std::vector<StateTensor> optimizer;         // masters, moments, EMA as boxes
  std::map<std::string, std::string> files;   // config.json, tokenizer.json, ...: name -> text
  int64_t max_file_bytes = int64_t{4} << 30;  // weights are cut into shards of about this size
};

// Writes parent/step_N atomically and returns its path: the three calls below, by one writer. A failure leaves no new
// step_N and no temporary folder behind. A step_N that is there already stays if it is sound and holds the same state,
// and is replaced otherwise.
absl::StatusOr<std::string> SaveCheckpoint(const SaveRequest& request);

// A save by several writers: one prepares a temporary folder, all write their parts into it, and with the fragments of
// all parts one publishes it.
//
// Makes the temporary folder, after those of dead processes are deleted, and returns its path for all writers.
absl::StatusOr<std::string> PrepareSave(const std::string& parent, int64_t step);
// Writes the weights and the optimizer state of `request` (each element of the checkpoint is in one part; AssignWeights
// shares weights out), durable, and returns the part's fragment. A failure is in the fragment too: a writer always has
// something to send, so none waits for another in vain. Of the meta only the step counts here.
std::string WritePart(const SaveRequest& request, const std::string& folder, Part part);
// Checks that no part failed or is missing and that the parts hold every element of every tensor that they name exactly
// once; names the files as those of one checkpoint, adds texts and manifest, and renames the folder to step_N. Of
// `request` parent, meta and files count. A failure deletes the folder.
absl::StatusOr<std::string> PublishSave(const SaveRequest& request, const std::string& folder,
                                        std::span<const std::string> fragments);
// Deletes the temporary folder of a save that will not come as far as PublishSave.
void AbandonSave(const std::string& folder);

// Re-reads the files of a checkpoint against the manifest's sizes and checksums: all of them, or one share, so that
// several readers together read each file once. An error names the file and the tensors in it.
absl::Status VerifyCheckpoint(const std::string& dir, Part part = {});

// The newest step_N under parent with a manifest that verifies; nullopt if there is none. Broken ones are skipped and
// named in `warnings`.
absl::StatusOr<std::optional<std::string>> FindLatestCheckpoint(const std::string& parent,
                                                                std::vector<std::string>* warnings);

// Deletes all but the newest `keep` checkpoints that verify, and that of the pinned step. Reads those: a damaged newer
// one does not count, so the last good one never goes. Damaged ones newer than the oldest kept stay, as evidence.
absl::Status RemoveOldCheckpoints(const std::string& parent, int64_t keep, int64_t pinned_step = -1);

absl::StatusOr<CheckpointMeta> ReadCheckpointMeta(const std::string& dir);

// Fills each tensor's box from the stored boxes that intersect it; opens only the files and reads only the bytes that
// takes. A missing part or a file that is not as the manifest says is an error that names tensor and rectangle; another
// global shape or dtype is one that names both. Damage of the same size shows in VerifyCheckpoint alone.
absl::Status RestoreState(const std::string& dir, const std::vector<StateTensor>& tensors);

// All tensors of a checkpoint, state and weights: name, shape, stored dtype, whole box, in ascending order of names.
absl::StatusOr<std::vector<StateTensor>> ListState(const std::string& dir);

// One hash (32 hexadecimal digits) over step, data position, seed and the sorted (name, dtype, shape, bytes) of all
// tensors in optimizer/, assembled: independent of how boxes and files are cut, of layout, paths and times. Weights
// follow from the masters, in whatever type they are stored, and count only where there is no state: in a checkpoint
// without optimizer/ and in a folder without manifest (there without step, data position and seed).
absl::StatusOr<std::string> StateHash(const std::string& dir);

}  // namespace conclave::core
