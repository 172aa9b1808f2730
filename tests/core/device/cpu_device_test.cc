// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "tests/core/device/every_device.h"

namespace conclave::core {
namespace {

class CpuDevice : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* value = std::getenv("CONCLAVE_CPU")) before_ = value;
    unsetenv("CONCLAVE_CPU");
  }
  void TearDown() override { before_.empty() ? unsetenv("CONCLAVE_CPU") : setenv("CONCLAVE_CPU", before_.c_str(), 1); }

 private:
  std::string before_;
};

TEST_F(CpuDevice, NamesInstructionSetAndThreads) {
  for (const std::string& target : test::AllDevices().targets()) {
    setenv("CONCLAVE_CPU", target.c_str(), 1);
    EXPECT_EQ((*CreateDevice({.num_threads = 1}))->Description(), "cpu " + target + ", 1 thread");
    EXPECT_EQ((*CreateDevice({.num_threads = 3}))->Description(), "cpu " + target + ", 3 threads");
  }
}

TEST_F(CpuDevice, TakesTheBestInstructionSetByDefault) {
  std::string target = test::AllDevices().targets().back();
  if (target == "avx512_bf16" && __builtin_cpu_is("intel")) target = "avx512";  // whose floats are faster there
  const std::string best = "cpu " + target + ", ";
  EXPECT_EQ((*CreateDevice({}))->Description().substr(0, best.size()), best);
  setenv("CONCLAVE_CPU", "", 1);
  EXPECT_EQ((*CreateDevice({}))->Description().substr(0, best.size()), best);
}

TEST_F(CpuDevice, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(CreateDevice({.name = "tpu"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CreateDevice({.num_threads = -1}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CreateDevice({.num_threads = 1000000}).status().code(), absl::StatusCode::kInvalidArgument);
  setenv("CONCLAVE_CPU", "avx1024", 1);
  const absl::Status unknown = CreateDevice({}).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(unknown.message()).find("avx1024"), std::string::npos);
}

TEST_F(CpuDevice, GivesZeroedAlignedMemory) {
  const auto device = *CreateDevice({.num_threads = 1});
  for (int64_t bytes : {0, 1, 100, 4096, (4 << 20) + 1}) {
    const auto buffer = device->Allocate(bytes, "test");
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ((*buffer)->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 128, 0u);
    const char* data = static_cast<const char*>((*buffer)->data());
    for (int64_t i = 0; i < bytes; ++i) ASSERT_EQ(data[i], 0);
  }
}

TEST_F(CpuDevice, NamesTheBufferThatDoesNotFit) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer aborts on huge allocations";
#endif
  const auto buffer = (*CreateDevice({.num_threads = 1}))->Allocate(int64_t{1} << 50, "moments");
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(buffer.status().message()).find("moments: 1048576.000 GiB"), std::string::npos);
}

TEST_F(CpuDevice, CopiesInAndOut) {
  const auto device = *CreateDevice({.num_threads = 1});
  const auto stream = device->CreateStream();
  const auto event = device->CreateEvent();
  std::vector<float> in = test::Normals(1, 60), out(60), middle(60);
  device->CopyToDevice(*stream, in.data(), test::View(middle, {3, 20}));
  device->Record(*event, *stream);
  device->Wait(*stream, *event);
  device->CopyToHost(*stream, test::View(middle, {60}), out.data());
  device->Synchronize(*stream);
  EXPECT_EQ(in, out);
  EXPECT_DEATH(device->CopyToHost(*stream, test::View(middle, {3, 20}).Slice(1, 0, 5), out.data()), "CHECK failed");
}

TEST_F(CpuDevice, PreparesTheThreadThatCreatesIt) {
  const unsigned int before = _mm_getcsr();
  _mm_setcsr(before & ~0x8040u);
  const auto device = *CreateDevice({.num_threads = 1});
  EXPECT_EQ(_mm_getcsr() & 0xe040u, 0x8040u);
  _mm_setcsr(before);
}

}  // namespace
}  // namespace conclave::core
