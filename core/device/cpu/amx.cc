// SPDX-License-Identifier: Apache-2.0
#include "core/device/cpu/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

namespace conclave::core::cpu {

bool HasAmx() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILE_DATA
  static const bool has = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
                          syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return has;
}

void ConfigureAmx() {
  static thread_local bool done = false;
  if (done) return;
  struct alignas(64) {  // what ldtilecfg reads
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } configuration;
  std::fill_n(configuration.row_bytes, 8, uint16_t{64});
  std::fill_n(configuration.rows, 8, uint8_t{16});
  asm volatile("ldtilecfg %0" : : "m"(configuration));
  done = true;
}

}  // namespace conclave::core::cpu
