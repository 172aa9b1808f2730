// SPDX-License-Identifier: Apache-2.0
// Tile registers of Intel's AMX, what they need before their first use. Compiled once, for plain x86-64.
#pragma once

namespace conclave::core::cpu {

// Whether the processor multiplies tiles of bf16 and the system lets this process use their registers (8 KiB for each
// thread, which it gives to those who ask).
bool HasAmx();

// Makes all eight tile registers of the calling thread 16 rows of 64 bytes. Cheap when they are already; every thread
// calls it before it uses them. Needs HasAmx().
void ConfigureAmx();

}  // namespace conclave::core::cpu
