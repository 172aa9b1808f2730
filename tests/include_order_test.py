#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on an include that points the wrong way: who may include whom stands in ALLOWED, vendor headers in VENDOR."""
import pathlib
import re
import sys

ALLOWED = {
    "core/base": [],
    "core/tensor": ["core/base"],
    "core/device": ["core/base", "core/tensor"],
    "core/config": ["core/base"],
    "core/checkpoint": ["core/base", "core/tensor"],
    "core/model": ["core/base", "core/tensor", "core/device", "core/config"],
    "parallel": ["core"],
    "optim": ["core", "parallel"],
    "data": ["core/base", "core/config", "core/model/batch.h", "core/checkpoint/file_io.h"],
    "rl": ["core", "parallel", "optim", "data"],
    "launch": ["core", "parallel", "optim", "data", "rl"],
}
# Headers of other programs that only some files may see: pattern -> allowed path pattern.
VENDOR = {
    r"yaml-cpp/": r"^core/config/yaml[a-z_]*\.cc$",
    r"^mpi\.h": r"^parallel/mpi_comm\.cc$",
    r"^nccl\.h": r"^parallel/nccl_comm\.cc$",
    r"^(cuda|cublas|cudnn)": r"^core/device/cuda/",
    r"^immintrin\.h": r"^core/device/cpu/",
    r"^zlib\.h": r"^data/",
    r"^zstd\.h": r"^data/",
    r"^pcre2\.h": r"^data/",
    r"^utf8proc\.h": r"^data/",
    r"^CLI/": r"^launch/",
    r"^boost/": r"^rl/reward/math_numeric\.cc$",
}
BACKENDS = re.compile(r"^core/device/(cpu|cuda)/")


def folder_of(path):
    return next((f for f in sorted(ALLOWED, key=len, reverse=True) if path.startswith(f + "/")), None)


def errors_of(root):
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root).as_posix()
        folder = folder_of(path)
        if folder is None or file.suffix not in (".h", ".cc", ".cu", ".cuh"):
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not match:
                continue
            header = match.group(1)
            target = folder_of(header)
            where = f"{path}:{number}: includes {header}"
            if target and target != folder and not any(header.startswith(a) for a in ALLOWED[folder]):
                yield f"{where}, but {folder} may include only {ALLOWED[folder] or 'nothing'}"
            if BACKENDS.match(header) and not path.startswith("core/device/"):
                yield f"{where}, a backend's own header"
            for vendor, allowed in VENDOR.items():
                if re.search(vendor, header) and not re.search(allowed, path):
                    yield f"{where}, which only files matching {allowed} may"


if __name__ == "__main__":
    found = list(errors_of(pathlib.Path(sys.argv[1])))
    print("\n".join(found) if found else "include order: fine")
    sys.exit(1 if found else 0)
