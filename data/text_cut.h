// SPDX-License-Identifier: Apache-2.0
// Where a long document is cut, so that its pieces can be encoded apart and in parallel: at a place where every
// tokenizer that splits words cuts anyway. A function of the text alone, not of buffers or threads.
#pragma once

#include <cstddef>
#include <string_view>

namespace conclave::data {

enum class Rest { kFollows, kNone };  // whether the document goes on behind the text at hand

// Bytes of the first piece of `text`; 0: more text is needed to know. From 1 MiB on it ends behind a newline that
// stands between a character that is no white space and an ASCII letter; from 4 MiB on also before a blank between the
// two; where neither comes up to 8 MiB, at the last whole UTF-8 character there.
size_t FirstPiece(std::string_view text, Rest rest);

}  // namespace conclave::data
