#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails if code that reaches state or samples calls a transcendental function of libm (glibc picks its code by CPU, so the
machine law would depend on it), or if an object built for one instruction set exports a weak symbol that the linker could
give to code for another machine. Usage: no_libm_test.py BUILD_DIR"""
import pathlib
import re
import subprocess
import sys

LIBM = re.compile(r"^(a?(sin|cos|tan)h?|sincos|exp(2|10|m1)?|log(2|10|1p)?|pow|cbrt|hypot|erfc?|[tl]gamma)[fl]?(@.*)?$")
LIBRARIES = ["conclave_base", "conclave_tensor", "conclave_device", "conclave_model", "conclave_optim", "conclave_data",
             "conclave_rl"]
TARGETS = ["avx2", "avx512", "avx512_bf16", "amx"]


def symbols(path, flags):
    out = subprocess.run(["nm", *flags, str(path)], capture_output=True, text=True, check=True).stdout
    return [line.split() for line in out.splitlines() if line.strip()]


def errors_of(build):
    for library in LIBRARIES:
        for words in symbols(build / f"lib{library}.a", ["-u"]):
            if words[0] == "U" and LIBM.match(words[-1]):
                yield f"lib{library}.a calls {words[-1]} of libm: use core/base/exact_math.h or simd.h"
    for target in TARGETS:
        objects = list((build / "CMakeFiles" / f"conclave_cpu_{target}.dir").rglob("*.o"))
        if not objects:
            yield f"no objects of conclave_cpu_{target} in {build}"
        for path in objects:
            for words in symbols(path, ["-C", "--defined-only"]):
                kind, name = words[1], " ".join(words[2:])
                if kind in "WVu" and target not in name and not name.startswith("typeinfo"):
                    yield f"{path.name} for {target} exports weak {name}"


if __name__ == "__main__":
    found = list(errors_of(pathlib.Path(sys.argv[1])))
    print("\n".join(found) if found else "no libm, no shared weak symbols: fine")
    sys.exit(1 if found else 0)
