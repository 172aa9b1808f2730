// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/merge_parts.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/box_cover.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/weight_index.h"

namespace conclave::core {
namespace {

std::string PartText(const Part& part) { return absl::StrFormat("part %d of %d", part.index + 1, part.count); }

// What our own writers never do: the bytes were damaged on their way, or ranks disagree about the layout.
absl::Status BrokenPart(const Part& part, std::string_view rule) {
  return absl::InternalError(absl::StrFormat("%s: %s", PartText(part), rule));
}

absl::Status CheckSucceeded(const std::vector<Fragment>& parts) {
  const auto has_failed = [](const Fragment& part) { return !part.status.ok(); };
  const auto first = std::find_if(parts.begin(), parts.end(), has_failed);
  if (first == parts.end()) return absl::OkStatus();
  if (parts.size() == 1) return first->status;
  const auto more = std::count_if(first + 1, parts.end(), has_failed);
  return absl::Status(first->status.code(), absl::StrFormat("%s failed, and %d more: %s", PartText(first->part), more,
                                                            std::string(first->status.message())));
}

// Takes the part's files, which must be those that WritePart makes: names decide what is renamed.
absl::Status AppendFiles(const Fragment& part, MergedParts& merged) {
  size_t num_weights = 0, num_state = 0;
  for (const WrittenFile& file : part.written.files) {
    if (file.name == PartFileName(kWeightsStem, part.part.index, num_weights)) {
      ++num_weights;
      merged.weight_files.push_back({.part_name = file.name, .file = file});
    } else if (file.name == PartFileName(kStateStem, part.part.index, num_state)) {
      ++num_state;
      merged.state_files.push_back({.part_name = file.name, .file = file});
    } else {
      return BrokenPart(part.part, absl::StrFormat("%s is no file of its own", Quoted(file.name)));
    }
  }
  return absl::OkStatus();
}

absl::Status AppendBoxes(const Fragment& part, MergedParts& merged) {
  for (const StoredBox& weight : part.written.weights) {
    if (weight.box != WholeBox(weight.shape) || weight.key != weight.name) {
      return BrokenPart(part.part, absl::StrFormat("weight %s is not whole", Quoted(weight.name)));
    }
    if (!weight.file.starts_with(kWeightsStem)) {
      return BrokenPart(part.part, absl::StrFormat("weight %s is in %s", Quoted(weight.name), Quoted(weight.file)));
    }
    merged.weights.push_back(weight);
  }
  for (const StoredBox& box : part.written.state) {
    if (!box.file.starts_with(kStateStem)) {
      return BrokenPart(part.part, absl::StrFormat("state %s is in %s", Quoted(box.name), Quoted(box.file)));
    }
    merged.state.push_back(box);
  }
  return absl::OkStatus();
}

// Numbers the files of all parts through; a single weights file has the name that everybody knows.
void GiveLastNames(std::string_view stem, std::vector<FileOfPart>& files, std::vector<StoredBox>& boxes) {
  std::map<std::string_view, std::string_view> last_names;
  for (size_t i = 0; i < files.size(); ++i) {
    const bool single = stem == kWeightsStem && files.size() == 1;
    files[i].file.name = single ? kSingleWeightsFile : ShardFileName(stem, i, files.size());
    last_names.emplace(files[i].part_name, files[i].file.name);
  }
  for (StoredBox& box : boxes) box.file = last_names.at(box.file);
}

}  // namespace

absl::StatusOr<std::vector<Fragment>> ReadFragments(std::span<const std::string> fragments, int64_t step) {
  const int given = static_cast<int>(fragments.size());
  std::map<int, Fragment> by_part;
  int expected = std::max(given, 1);
  for (int i = 0; i < given; ++i) {
    auto fragment = ParseFragment(fragments[static_cast<size_t>(i)]);
    if (!fragment.ok()) {
      return absl::InternalError(
          absl::StrFormat("fragment %d of %d: %s", i + 1, given, std::string(fragment.status().message())));
    }
    const Part part = fragment->part;
    if (fragment->written.meta.step != step) {
      return BrokenPart(part, absl::StrFormat("it is of step %d, not %d", fragment->written.meta.step, step));
    }
    if (part.count < given) return BrokenPart(part, absl::StrFormat("there are %d fragments", given));
    if (i > 0 && part.count != expected) return BrokenPart(part, absl::StrFormat("others are of %d", expected));
    expected = part.count;
    if (!by_part.emplace(part.index, *std::move(fragment)).second) return BrokenPart(part, "it came twice");
  }
  std::vector<Fragment> parts;
  for (int index = 0; index < expected; ++index) {
    const auto found = by_part.find(index);
    if (found == by_part.end()) return BrokenPart({index, expected}, "its fragment is missing");
    parts.push_back(std::move(found->second));
  }
  return parts;
}

int64_t TensorBytes(const std::vector<Fragment>& parts) {
  constexpr int64_t kMost = int64_t{1} << 62;
  int64_t bytes = 0;
  for (const Fragment& part : parts) bytes += std::min(part.tensor_bytes, kMost - bytes);
  return bytes;
}

absl::StatusOr<MergedParts> MergeParts(const std::vector<Fragment>& parts) {
  RETURN_IF_ERROR(CheckSucceeded(parts));
  MergedParts merged;
  for (const Fragment& part : parts) {
    RETURN_IF_ERROR(AppendFiles(part, merged));
    RETURN_IF_ERROR(AppendBoxes(part, merged));
  }
  RETURN_IF_ERROR(CheckExactCover(merged.weights));
  RETURN_IF_ERROR(CheckExactCover(merged.state));
  GiveLastNames(kWeightsStem, merged.weight_files, merged.weights);
  GiveLastNames(kStateStem, merged.state_files, merged.state);
  return merged;
}

}  // namespace conclave::core
