#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing need, on Debian 12 and its relatives. Does nothing if all of it is there. Without root or
# sudo it prints the one command to run.
set -euo pipefail

packages=(
  g++                    # the compiler; C++20
  cmake                  # describes the build
  ninja-build            # runs it
  libabsl-dev            # Abseil: Status, StrFormat
  libyaml-cpp-dev        # reads config files
  nlohmann-json3-dev     # reads config.json, safetensors headers, JSONL
  libprotobuf-dev        # manifests of checkpoints
  protobuf-compiler      # the same: makes C++ of manifest.proto
  zlib1g-dev             # reads .gz
  libzstd-dev            # reads .zst
  libpcre2-dev           # regular expressions of tokenizers
  libutf8proc-dev        # Unicode normalization of tokenizers
  libcli11-dev           # command line
  libxxhash-dev          # checksums
  libboost-dev           # Multiprecision: closed forms to 80 digits, when answers are compared
  libopenmpi-dev         # many ranks
  openmpi-bin            # mpirun
  libgtest-dev           # GoogleTest
  python3                # the test that checks the order of includes
)

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is not Debian or a relative; install what corresponds to: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  exit 0
fi

install="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
echo "setup: installing ${missing[*]}"
if (($(id -u) == 0)); then
  as_root=(env)
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
  as_root=(sudo)
else
  echo "setup: this needs root. Run as root, then start again:" >&2
  echo "  $install" >&2
  exit 1
fi
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive bash -c "$install"
