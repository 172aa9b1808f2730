// SPDX-License-Identifier: Apache-2.0
// Headers that lie, each with the rule that must catch it.
#include "core/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "tests/core/checkpoint/checkpoint_test_util.h"

namespace conclave::core {
namespace {

using Metadata = std::map<std::string, std::string>;

struct BadHeader {
  const char* what;
  std::string header;
  int64_t data_bytes;
  const char* expected;  // in the message
};

std::string Entry(std::string_view fields) { return "{\"a\":{" + std::string(fields) + "}}"; }

const std::vector<BadHeader>& BadHeaders() {
  static const std::vector<BadHeader> headers = {
      {"nothing", "", 0, "does not begin"},
      {"a blank first", " {}", 0, "does not begin"},
      {"an array", "[]", 0, "does not begin"},
      {"a byte order mark", "\xef\xbb\xbf{}", 0, "does not begin"},
      {"cut off", "{\"a\":{\"dtype\":\"F32\"", 0, "not valid JSON"},
      {"text after the end", "{}{}", 0, "not valid JSON"},
      {"a zero byte", std::string("{}\0{", 4), 0, "zero byte"},
      {"bad UTF-8", "{\"\xff\xfe\":{}}", 0, "not valid JSON"},
      {"bad UTF-8 in metadata", "{\"__metadata__\":{\"a\":\"\xc0\xaf\"}}", 0, "not valid JSON"},
      {"a tensor that is a number", "{\"a\":4}", 0, "'a': a number is not allowed"},
      {"a tensor that is null", "{\"a\":null}", 0, "null"},
      {"metadata with a number", "{\"__metadata__\":{\"format\":1}}", 0, "a number is not allowed"},
      {"metadata with an object", "{\"__metadata__\":{\"format\":{}}}", 0, "object is not allowed"},
      {"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate key '__metadata__'"},
      {"a metadata key twice", "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate key 'k'"},
      {"no dtype", Entry(R"("shape":[1],"data_offsets":[0,4])"), 4, "missing"},
      {"no shape", Entry(R"("dtype":"F32","data_offsets":[0,4])"), 4, "missing"},
      {"no offsets", Entry(R"("dtype":"F32","shape":[1])"), 4, "missing"},
      {"an unknown field", Entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1)"), 4,
       "unknown field 'extra'"},
      {"a field twice", Entry(R"("dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4])"), 4,
       "duplicate key 'dtype'"},
      {"an unknown dtype", Entry(R"("dtype":"F33","shape":[1],"data_offsets":[0,4])"), 4, "unknown dtype 'F33'"},
      {"dtype in lower case", Entry(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])"), 4, "unknown dtype"},
      {"a negative size", Entry(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), 4, "negative"},
      {"a fraction", Entry(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])"), 4, "not an integer"},
      {"an exponent", Entry(R"("dtype":"F32","shape":[1e0],"data_offsets":[0,4])"), 4, "not an integer"},
      {"minus zero", Entry(R"("dtype":"F32","shape":[1],"data_offsets":[-0,4])"), 4, "negative"},
      {"a leading zero", Entry(R"("dtype":"F32","shape":[01],"data_offsets":[0,4])"), 4, "not valid JSON"},
      {"2^63", Entry(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4])"), 4, "2^63 or more"},
      {"2^64", Entry(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,4])"), 4, "not an integer"},
      {"nine dims", Entry(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4])"), 4, "more than 8"},
      {"nested lists", Entry(R"("dtype":"F32","shape":[[1]],"data_offsets":[0,4])"), 4, "array is not allowed"},
      {"one offset", Entry(R"("dtype":"F32","shape":[1],"data_offsets":[4])"), 4, "not a pair"},
      {"a product that overflows", Entry(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0,
       "2^63 bits"},
      {"an overflow hidden by a zero", Entry(R"("dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0])"),
       0, "2^63"},
      {"half a byte", Entry(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), 2, "whole bytes"},
      {"shape and range differ", Entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4,
       "need 8 bytes but data_offsets span 4"},
      {"reversed offsets", Entry(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), 4, "backwards"},
      {"beyond the file", Entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 4, "only 4 bytes"},
      {"trailing bytes", Entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"), 5, "end at byte 4"},
      {"a hole at the start", Entry(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), 8, "a hole or an overlap"},
      {"data without tensors", "{}", 1, "end at byte 0"},
      {"a name twice",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "duplicate key 'a'"},
      {"an overlap",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "'b': begins at byte 1"},
      {"a hole",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
       5, "'b': begins at byte 3"},
      {"an empty name", R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "printable"},
      {"a line end in a name", R"({"a\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "'a\\n'"},
      {"a name of 513 bytes", "{\"" + std::string(513, 'n') + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1, "printable"},
      {"deep nesting", "{\"a\":" + std::string(1'000'000, '['), 0, "array is not allowed"},
  };
  return headers;
}

TEST(SafetensorsHeader, RefusesWhatBreaksARuleAndNamesTheRule) {
  for (const BadHeader& bad : BadHeaders()) {
    const auto entries = SafetensorsFile::ParseHeader(bad.header, bad.data_bytes, nullptr);
    ASSERT_FALSE(entries.ok()) << bad.what;
    EXPECT_TRUE(Contains(entries.status(), bad.expected)) << bad.what << ": " << entries.status();
  }
}

TEST(SafetensorsHeader, AcceptsPaddingScalarsEmptyTensorsAndEveryDtype) {
  const std::string header =
      R"({"__metadata__":{"format":"pt","note":"\u00e9"},"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("empty":{"dtype":"F64","shape":[3,0],"data_offsets":[4,4]},)"
      R"("fp4":{"dtype":"F4","shape":[2,3],"data_offsets":[4,7]},)"
      R"("deep":{"dtype":"F8_E8M0","shape":[1,1,1,1,1,1,1,2],"data_offsets":[7,9]}}   )";
  Metadata metadata;
  const auto entries = SafetensorsFile::ParseHeader(header, 9, &metadata);
  ASSERT_OK(entries.status());
  ASSERT_EQ(entries->size(), 4u);
  EXPECT_EQ((*entries)[0].name, "scalar");
  EXPECT_EQ((*entries)[1].name, "empty");
  EXPECT_EQ((*entries)[3].shape.size(), 8u);
  EXPECT_EQ(metadata.at("note"), "\xc3\xa9");
}

TEST(SafetensorsHeader, OrdersByOffsetWhateverTheOrderInTheText) {
  const auto entries = SafetensorsFile::ParseHeader(
      R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 2,
      nullptr);
  ASSERT_OK(entries.status());
  EXPECT_EQ((*entries)[0].name, "a");
}

TEST(SafetensorsHeader, RefusesMoreThanAMillionTensors) {
  std::string header = "{";
  for (int i = 0; i <= 1'000'000; ++i) {
    header += (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  EXPECT_TRUE(Contains(SafetensorsFile::ParseHeader(header + "}", 0, nullptr).status(), "more than 1000000 tensors"));
}

TEST(SafetensorsHeader, MessagesStayShortWhateverTheHeaderSays) {
  const std::string name(1'000'000, 'x');
  for (const std::string& header : {"{\"" + name + "\":1}", "{\"" + name, "{\"a\":{\"" + name + "\":1}}",
                                    "{\"a\":{\"dtype\":\"" + name + "\"", "{\"a\":" + std::string(1'000'000, '1')}) {
    const auto entries = SafetensorsFile::ParseHeader(header, 0, nullptr);
    ASSERT_FALSE(entries.ok());
    EXPECT_LT(entries.status().message().size(), 1000u);
  }
}

TEST(SafetensorsHeader, EveryCutOfAGoodHeaderIsRefused) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}})";
  ASSERT_OK(SafetensorsFile::ParseHeader(header, 8, nullptr).status());
  for (size_t length = 0; length < header.size(); ++length) {
    EXPECT_FALSE(SafetensorsFile::ParseHeader(header.substr(0, length), 8, nullptr).ok()) << length;
  }
}

}  // namespace
}  // namespace conclave::core
