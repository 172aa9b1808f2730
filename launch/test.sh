#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to passed tests: packages, build, all tests. Arguments go to ctest, e.g. -R launch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/setup.sh
cmake --preset release
cmake --build --preset release
ctest --preset release "$@"
