// SPDX-License-Identifier: Apache-2.0
// The devices that this machine can test: the CPU with each instruction set that it has, with any number of threads.
#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/device/device.h"

namespace conclave::core::test {

// CreateDevice with CONCLAVE_CPU set to `target` meanwhile; null if this machine lacks it.
inline std::unique_ptr<Device> CreateCpuDevice(const std::string& target, int num_threads) {
  const char* before = std::getenv("CONCLAVE_CPU");
  const std::optional<std::string> saved = before ? std::optional<std::string>(before) : std::nullopt;
  setenv("CONCLAVE_CPU", target.c_str(), 1);
  absl::StatusOr<std::unique_ptr<Device>> device = CreateDevice({.name = "cpu", .num_threads = num_threads});
  if (saved) {
    setenv("CONCLAVE_CPU", saved->c_str(), 1);
  } else {
    unsetenv("CONCLAVE_CPU");
  }
  return device.ok() ? std::move(device).value() : nullptr;
}

// Keeps the devices that tests have asked for.
class Devices {
 public:
  // Instruction sets of this machine, the plainest first.
  const std::vector<std::string>& targets() {
    if (targets_.empty()) {
      for (const char* target : {"portable", "avx2", "avx512", "avx512_bf16", "amx"}) {
        if (CreateCpuDevice(target, 1)) targets_.push_back(target);
      }
      CHECK(!targets_.empty());
    }
    return targets_;
  }
  Device& Get(const std::string& target, int num_threads) {
    std::unique_ptr<Device>& device = devices_[{target, num_threads}];
    if (!device) device = CreateCpuDevice(target, num_threads);
    CHECK(device != nullptr);
    return *device;
  }

 private:
  std::vector<std::string> targets_;
  std::map<std::pair<std::string, int>, std::unique_ptr<Device>> devices_;
};

}  // namespace conclave::core::test
