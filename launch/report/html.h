// SPDX-License-Identifier: Apache-2.0
// Text of anyone in a page of ours. All that is not written by this program goes through Escaped: responses of a model
// are any bytes.
#pragma once

#include <string>
#include <string_view>

namespace conclave::launch {

// For content and for attributes in double quotes, in HTML and in XML. Bytes that are not UTF-8 become U+FFFD; control
// characters, which neither may hold, become their pictures (U+2400 and on); line ends and tabs stay.
std::string Escaped(std::string_view text);

// The front and the end of what is longer than `bytes`, with a note of how many bytes between them were left out; cut
// between characters.
std::string Shortened(std::string_view text, size_t bytes);

}  // namespace conclave::launch
