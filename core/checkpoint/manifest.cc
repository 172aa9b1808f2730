// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/manifest.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/number_formats.h"
#include "manifest.pb.h"

namespace conclave::core {
namespace {

constexpr uint32_t kFormatVersion = 1;
constexpr int64_t kMaxManifestBytes = int64_t{512} << 20;
constexpr int kMaxStatusCode = static_cast<int>(absl::StatusCode::kUnauthenticated);
constexpr int kMaxBoxRank = static_cast<int>(std::tuple_size_v<decltype(Box::sizes)>);

std::string Digest(const std::string& bytes) {
  Hasher hasher;
  hasher.Update(bytes.data(), bytes.size());
  return hasher.HexDigest();
}

// "name" or "folder/name", both plain.
bool IsSafePath(std::string_view path) {
  const size_t slash = path.find('/');
  if (slash == std::string_view::npos) return IsPlainFileName(path) && path != kManifestFile;
  return IsPlainFileName(path.substr(0, slash)) && IsPlainFileName(path.substr(slash + 1));
}

absl::Status Broken(std::string_view name, std::string_view rule) {
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s", Quoted(name), rule));
}

absl::Status CheckBox(const StoredBox& stored, const std::map<std::string_view, int64_t>& file_bytes) {
  int64_t whole_bytes = SizeOf(stored.dtype);
  for (int dim = 0; dim < stored.box.rank; ++dim) {
    const int64_t size = stored.box.sizes[dim], offset = stored.box.offsets[dim], whole = stored.shape[dim];
    if (size < 0 || offset < 0 || offset > whole || size > whole - offset) {
      return Broken(stored.name, "its box lies outside its shape");
    }
    if (__builtin_mul_overflow(whole_bytes, whole, &whole_bytes)) {
      return Broken(stored.name, "its shape has 2^63 bytes or more");
    }
  }
  const auto file = file_bytes.find(stored.file);
  if (file == file_bytes.end())
    return Broken(stored.name, absl::StrCat("file ", Quoted(stored.file), " is not listed"));
  if (stored.box.Elements() * SizeOf(stored.dtype) > file->second) {
    return Broken(stored.name, absl::StrCat("its box is larger than file ", Quoted(stored.file)));
  }
  return absl::OkStatus();
}

absl::Status CheckBoxes(const std::vector<StoredBox>& boxes, const std::map<std::string_view, int64_t>& file_bytes) {
  std::unordered_map<std::string_view, const StoredBox*> first;
  for (const StoredBox& box : boxes) {
    RETURN_IF_ERROR(CheckBox(box, file_bytes));
    const StoredBox& other = *first.emplace(box.name, &box).first->second;
    if (other.dtype != box.dtype || other.shape != box.shape) {
      return Broken(box.name, "its boxes differ in dtype or shape");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckManifest(const Manifest& manifest) {
  if (manifest.meta.step < 0 || manifest.meta.data_position < 0) {
    return absl::InvalidArgumentError("step or data position is negative");
  }
  std::map<std::string_view, int64_t> file_bytes;
  for (const WrittenFile& file : manifest.files) {
    if (!IsSafePath(file.name)) return Broken(file.name, "not a safe file name");
    if (file.bytes < 0) return Broken(file.name, "negative size");
    if (!file_bytes.emplace(file.name, file.bytes).second) return Broken(file.name, "listed twice");
  }
  RETURN_IF_ERROR(CheckBoxes(manifest.weights, file_bytes));
  return CheckBoxes(manifest.state, file_bytes);
}

void ToProto(const StoredBox& stored, proto::StoredBox& out) {
  out.set_name(stored.name);
  out.set_dtype(StoredTypeName(stored.dtype));
  out.mutable_shape()->Assign(stored.shape.begin(), stored.shape.end());
  out.mutable_offsets()->Assign(stored.box.offsets.begin(), stored.box.offsets.begin() + stored.box.rank);
  out.mutable_sizes()->Assign(stored.box.sizes.begin(), stored.box.sizes.begin() + stored.box.rank);
  out.set_file(stored.file);
  out.set_key(stored.key);
}

proto::Manifest ToProto(const Manifest& manifest) {
  proto::Manifest out;
  out.set_step(manifest.meta.step);
  out.set_data_position(manifest.meta.data_position);
  out.set_seed(manifest.meta.seed);
  out.set_config_yaml(manifest.meta.config_yaml);
  out.set_device(manifest.meta.device);
  out.set_precision(manifest.meta.precision);
  out.set_sample_chain(manifest.meta.sample_chain);
  out.set_data_fingerprint(manifest.meta.data_fingerprint);
  out.set_program_version(manifest.meta.program_version);
  for (const std::string& line : manifest.meta.history) out.add_history(line);
  for (const WrittenFile& file : manifest.files) {
    proto::File& listed = *out.add_files();
    listed.set_name(file.name);
    listed.set_bytes(file.bytes);
    listed.set_checksum(file.checksum);
  }
  for (const StoredBox& box : manifest.weights) ToProto(box, *out.add_weights());
  for (const StoredBox& box : manifest.state) ToProto(box, *out.add_state());
  return out;
}

absl::StatusOr<std::vector<StoredBox>> FromProto(const google::protobuf::RepeatedPtrField<proto::StoredBox>& boxes) {
  std::vector<StoredBox> out;
  for (const proto::StoredBox& box : boxes) {
    const StoredTypeInfo* type = FindStoredType(box.dtype());
    if (type == nullptr || !type->dtype) {
      return Broken(box.name(), absl::StrCat("unknown dtype ", Quoted(box.dtype())));
    }
    const int rank = box.shape_size();
    if (rank > kMaxBoxRank || box.offsets_size() != rank || box.sizes_size() != rank) {
      return Broken(box.name(), "its box and its shape differ in rank, or have more than four dims");
    }
    StoredBox& stored = out.emplace_back(StoredBox{.name = box.name(),
                                                   .dtype = *type->dtype,
                                                   .shape = {box.shape().begin(), box.shape().end()},
                                                   .box = {.rank = rank},
                                                   .file = box.file(),
                                                   .key = box.key()});
    std::copy(box.offsets().begin(), box.offsets().end(), stored.box.offsets.begin());
    std::copy(box.sizes().begin(), box.sizes().end(), stored.box.sizes.begin());
  }
  return out;
}

absl::StatusOr<Manifest> FromProto(const proto::Manifest& in) {
  Manifest manifest;
  manifest.meta = {.step = in.step(),
                   .data_position = in.data_position(),
                   .seed = in.seed(),
                   .config_yaml = in.config_yaml(),
                   .device = in.device(),
                   .precision = in.precision(),
                   .sample_chain = in.sample_chain(),
                   .data_fingerprint = in.data_fingerprint(),
                   .program_version = in.program_version(),
                   .history = {in.history().begin(), in.history().end()}};
  for (const proto::File& file : in.files()) {
    manifest.files.push_back({.name = file.name(), .bytes = file.bytes(), .checksum = file.checksum()});
  }
  ASSIGN_OR_RETURN(manifest.weights, FromProto(in.weights()));
  ASSIGN_OR_RETURN(manifest.state, FromProto(in.state()));
  return manifest;
}

// Checks the envelope around the bytes, and the checksum of what `content` takes out of it.
template <class Message, class Content>
absl::StatusOr<Message> Unwrap(const std::string& bytes, Content content) {
  proto::Envelope envelope;
  if (!envelope.ParseFromString(bytes)) return absl::DataLossError("cut off or damaged");
  if (envelope.format_version() != kFormatVersion) {
    return absl::InvalidArgumentError(
        absl::StrFormat("format version %d; this program reads version %d", envelope.format_version(), kFormatVersion));
  }
  const std::string& inside = content(envelope);
  if (Digest(inside) != envelope.checksum()) return absl::DataLossError("its checksum does not match");
  Message message;
  if (!message.ParseFromString(inside)) return absl::DataLossError("damaged before it was written");
  return message;
}

absl::StatusOr<Manifest> CheckedManifest(const proto::Manifest& parsed) {
  ASSIGN_OR_RETURN(Manifest manifest, FromProto(parsed));
  RETURN_IF_ERROR(CheckManifest(manifest));
  return manifest;
}

absl::StatusOr<Manifest> ParseManifest(const std::string& bytes) {
  const auto content = [](const proto::Envelope& envelope) -> const std::string& { return envelope.manifest(); };
  ASSIGN_OR_RETURN(const proto::Manifest parsed, Unwrap<proto::Manifest>(bytes, content));
  return CheckedManifest(parsed);
}

}  // namespace

absl::StatusOr<Manifest> ReadManifest(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/", kManifestFile);
  ASSIGN_OR_RETURN(const std::string bytes, ReadTextFile(path, kMaxManifestBytes));
  auto manifest = ParseManifest(bytes);
  if (manifest.ok()) return manifest;
  return absl::Status(manifest.status().code(), absl::StrCat(path, ": ", manifest.status().message()));
}

absl::Status WriteManifest(const std::string& dir, const Manifest& manifest) {
  proto::Envelope envelope;
  envelope.set_format_version(kFormatVersion);
  envelope.set_manifest(ToProto(manifest).SerializeAsString());
  envelope.set_checksum(Digest(envelope.manifest()));
  const std::string bytes = envelope.SerializeAsString(), path = absl::StrCat(dir, "/", kManifestFile);
  // What our own reader would refuse is never written.
  if (const auto parsed = ParseManifest(bytes); !parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot write ", path, ": ", parsed.status().message()));
  }
  return WriteTextFile(path, bytes).status();
}

bool SameState(Manifest a, Manifest b) {
  for (Manifest* each : {&a, &b}) {
    each->meta.history.clear();
    each->meta.program_version.clear();
  }
  return ToProto(a).SerializeAsString() == ToProto(b).SerializeAsString();
}

absl::Status CheckFileSize(const std::string& dir, const WrittenFile& listed) {
  ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(absl::StrCat(dir, "/", listed.name)));
  if (file.size() == listed.bytes) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("%s has %d bytes, the manifest says %d", file.path(), file.size(), listed.bytes));
}

std::string SerializeFragment(const Fragment& fragment) {
  proto::Fragment out;
  out.set_part(fragment.part.index);
  out.set_num_parts(fragment.part.count);
  out.set_tensor_bytes(fragment.tensor_bytes);
  out.set_error_code(static_cast<int>(fragment.status.code()));
  out.set_error(std::string(fragment.status.message()));
  *out.mutable_written() = ToProto(fragment.written);
  proto::Envelope envelope;
  envelope.set_format_version(kFormatVersion);
  envelope.set_fragment(out.SerializeAsString());
  envelope.set_checksum(Digest(envelope.fragment()));
  return envelope.SerializeAsString();
}

absl::StatusOr<Fragment> ParseFragment(const std::string& bytes) {
  const auto content = [](const proto::Envelope& envelope) -> const std::string& { return envelope.fragment(); };
  ASSIGN_OR_RETURN(const proto::Fragment parsed, Unwrap<proto::Fragment>(bytes, content));
  Fragment fragment = {.part = {.index = parsed.part(), .count = parsed.num_parts()},
                       .tensor_bytes = parsed.tensor_bytes(),
                       .status = {},
                       .written = {}};
  if (fragment.part.index < 0 || fragment.part.index >= fragment.part.count) {
    return absl::InvalidArgumentError(
        absl::StrFormat("part %d of %d does not exist", fragment.part.index, fragment.part.count));
  }
  if (fragment.tensor_bytes < 0) return absl::InvalidArgumentError("its tensors have a negative size");
  if (parsed.error_code() != 0) {
    const bool known = parsed.error_code() > 0 && parsed.error_code() <= kMaxStatusCode;
    const absl::StatusCode code =
        known ? static_cast<absl::StatusCode>(parsed.error_code()) : absl::StatusCode::kUnknown;
    fragment.status = absl::Status(code, parsed.error());
  }
  ASSIGN_OR_RETURN(fragment.written, CheckedManifest(parsed.written()));
  return fragment;
}

Box WholeBox(const std::vector<int64_t>& shape) {
  CHECK_LE(shape.size(), kMaxBoxRank);
  Box box;
  box.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), box.sizes.begin());
  return box;
}

std::string BoxText(const Box& box) {
  std::vector<std::string> ranges;
  for (int dim = 0; dim < box.rank; ++dim) {
    ranges.push_back(absl::StrCat(box.offsets[dim], ":", box.offsets[dim] + box.sizes[dim]));
  }
  return absl::StrCat("[", absl::StrJoin(ranges, ", "), "]");
}

std::string TypeText(DType dtype, const std::vector<int64_t>& shape) {
  return absl::StrFormat("%s [%s]", StoredTypeName(dtype), absl::StrJoin(shape, ", "));
}

std::string TensorsInFile(const Manifest& manifest, std::string_view file) {
  const StoredBox* first = nullptr;
  int64_t count = 0;
  for (const auto* boxes : {&manifest.weights, &manifest.state}) {
    for (const StoredBox& box : *boxes) {
      if (box.file != file) continue;
      if (first == nullptr) first = &box;
      ++count;
    }
  }
  if (first == nullptr) return "";
  const std::string text = absl::StrFormat("tensor %s %s", Quoted(first->name), BoxText(first->box));
  return count == 1 ? text : absl::StrFormat("%s and %d more", text, count - 1);
}

}  // namespace conclave::core
