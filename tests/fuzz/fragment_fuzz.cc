// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for the fragments that ranks send each other when they save: the input is what the envelope's
// checksum covers, the sum is put right here. What is accepted must come back from writing, and whatever the parts
// merge into must name only their own files and hold as many elements of each tensor as it has.
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/stubs/logging.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/merge_parts.h"

namespace {

using namespace conclave::core;

// Field 1: version 1; field 2: the checksum; field 4: the bytes.
std::string Sealed(std::string_view fragment) {
  Hasher hasher;
  hasher.Update(fragment.data(), fragment.size());
  std::string bytes = "\x08\x01\x12\x20" + hasher.HexDigest() + "\x22";
  size_t rest = fragment.size();
  for (; rest > 0x7f; rest >>= 7) bytes.push_back(static_cast<char>((rest & 0x7f) | 0x80));
  bytes.push_back(static_cast<char>(rest));
  return bytes.append(fragment);
}

void CheckBoxes(const std::vector<StoredBox>& boxes, const std::vector<FileOfPart>& files) {
  std::set<std::string> names;
  for (const FileOfPart& file : files) CHECK(names.insert(file.file.name).second);
  std::map<std::string, int64_t> elements;
  for (const StoredBox& box : boxes) {
    CHECK(names.contains(box.file));
    elements[box.name] += box.box.Elements();
  }
  for (const StoredBox& box : boxes) CHECK_EQ(elements[box.name], WholeBox(box.shape).Elements());
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);  // it prints a line about every text that is not UTF-8
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string fragment = Sealed({reinterpret_cast<const char*>(bytes), size});
  const auto parsed = ParseFragment(fragment);
  if (!parsed.ok()) {
    CHECK(!parsed.status().message().empty());
    return 0;
  }
  CHECK(ParseFragment(SerializeFragment(*parsed)).ok());
  const auto parts = ReadFragments({&fragment, 1}, parsed->written.meta.step);
  if (!parts.ok()) return 0;
  CHECK_GE(TensorBytes(*parts), 0);
  const auto merged = MergeParts(*parts);
  if (!merged.ok()) return 0;
  CheckBoxes(merged->weights, merged->weight_files);
  CheckBoxes(merged->state, merged->state_files);
  return 0;
}
