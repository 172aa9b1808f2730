// SPDX-License-Identifier: Apache-2.0
// A folder of its own for a test, gone with it, with the token cache inside; writes files as they are and packed.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "zlib.h"
#include "zstd.h"

namespace conclave::data {

class TempFolder {
 public:
  TempFolder() {
    std::string name = testing::TempDir() + "conclave_data_XXXXXX";
    path_ = mkdtemp(name.data());
    setenv("XDG_CACHE_HOME", Path("cache").c_str(), 1);
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string Path(const std::string& name) const { return path_ + "/" + name; }

  std::string Write(const std::string& name, std::string_view contents) const {
    std::filesystem::create_directories(std::filesystem::path(Path(name)).parent_path());
    std::ofstream(Path(name), std::ios::binary) << contents;
    return Path(name);
  }

 private:
  std::string path_;
};

// One gzip member.
inline std::string Gzip(std::string_view contents) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, contents.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(contents.data()));
  stream.avail_in = static_cast<uInt>(contents.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// One zstd frame.
inline std::string Zstd(std::string_view contents, int window_bits = 0) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  if (window_bits > 0) ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_bits);
  std::string packed(ZSTD_compressBound(contents.size()), '\0');
  ZSTD_inBuffer from = {contents.data(), contents.size(), 0};
  ZSTD_outBuffer to = {packed.data(), packed.size(), 0};
  ZSTD_compressStream2(context, &to, &from, ZSTD_e_continue);  // not all at once: that would lower the window
  EXPECT_EQ(ZSTD_compressStream2(context, &to, &from, ZSTD_e_end), 0u);
  packed.resize(to.pos);
  ZSTD_freeCCtx(context);
  return packed;
}

inline std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace conclave::data
