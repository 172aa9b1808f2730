// SPDX-License-Identifier: Apache-2.0
#include "launch/run_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/config/recipe.h"
#include "core/config/yaml.h"

namespace conclave::launch {
namespace {

std::string ReadHolder(int lock) {
  char text[32] = {};
  const ssize_t bytes = ::pread(lock, text, sizeof(text) - 1, 0);
  std::string holder(text, bytes > 0 ? static_cast<size_t>(bytes) : 0);
  while (!holder.empty() && holder.back() == '\n') holder.pop_back();
  return holder.empty() ? "another process" : "process " + holder;
}

bool MayDiffer(std::string_view key, bool ramps) {
  static constexpr std::string_view kFree[] = {
      "train.steps", "train.checkpoint_every", "train.validate_every", "train.keep", "run.dir",
      "data.cache",  "rollout.decode_batch"};
  if (key.starts_with("parallel.") || key.starts_with("eval.")) return true;
  // A ramp grows in whole micro-batches: there the cut decides which rows a step draws.
  if (key == "batch.micro_sequences") return !ramps;
  return std::find(std::begin(kFree), std::end(kFree), key) != std::end(kFree);
}

// `config` as it would be if the folder of its recipe, with all stages that it reads of, were `recipe`.
core::Config Moved(core::Config config, std::string_view recipe) {
  const std::string before(core::RecipeDir(config.run.dir));
  if (before.empty() || recipe.empty()) return config;
  const auto move = [&](std::string& path) {
    if (path.starts_with(before + "/")) path = std::string(recipe) + path.substr(before.size());
  };
  move(config.model.from);
  move(config.teacher);
  for (auto* sources : {&config.data.train, &config.data.validation, &config.data.prompts}) {
    for (core::SourceConfig& source : *sources) move(source.path);
  }
  return config;
}

}  // namespace

absl::StatusOr<RunFolder> RunFolder::Open(const std::string& dir) {
  RETURN_IF_ERROR(core::MakeDirectories(dir));
  const std::string path = dir + "/.lock";
  core::FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (lock.get() < 0) return core::FileError(errno, "cannot open", path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return core::FileError(errno, "cannot lock", path);
    return absl::FailedPreconditionError(absl::StrFormat(
        "run folder %s is in use by %s; wait for it, or give another run.dir", dir, ReadHolder(lock.get())));
  }
  // The number is for messages only: a disk too full to hold it does not matter.
  const std::string holder = absl::StrFormat("%d\n", ::getpid());
  if (::ftruncate(lock.get(), 0) == 0) (void)!::pwrite(lock.get(), holder.data(), holder.size(), 0);
  RunFolder folder(dir, std::move(lock));
  RETURN_IF_ERROR(core::RemoveLeftovers(folder.CheckpointsPath()));
  return folder;
}

absl::Status RunFolder::StoreConfig(const core::Config& config) const {
  return core::ReplaceTextFile(ConfigPath(), core::WriteConfig(config));
}

absl::Status CheckContinues(const core::Config& before, const core::Config& now) {
  const bool ramps = before.batch.ramp.steps > 0 || now.batch.ramp.steps > 0;
  std::string list;
  for (const std::string& difference : core::DifferingKeys(Moved(before, core::RecipeDir(now.run.dir)), now)) {
    const std::string_view key = std::string_view(difference).substr(0, difference.find(':'));
    if (!MayDiffer(key, ramps)) list += (list.empty() ? "" : "; ") + difference;
  }
  if (list.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("the config is not that of the run in %s: %s. Undo the change to go on with that run, or give "
                      "another run.dir to start "
                      "a new one",
                      now.run.dir, list));
}

}  // namespace conclave::launch
