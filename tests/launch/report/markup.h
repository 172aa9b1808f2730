// SPDX-License-Identifier: Apache-2.0
// Whether a page is well-formed: tags nest, attributes are quoted, text has no bare '<' or '&', no byte is a control
// character, all is UTF-8. What holds for XML holds for the HTML of ours.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/utf8.h"

namespace conclave::launch {

class MarkupReader {
 public:
  explicit MarkupReader(std::string_view page) : rest_(page) {}

  // What is wrong first; "" if nothing is.
  std::string Error() {
    if (const std::string wrong = WrongCharacter(rest_); !wrong.empty()) return wrong;
    constexpr std::string_view kDoctype = "<!DOCTYPE html>\n";
    if (rest_.starts_with(kDoctype)) rest_.remove_prefix(kDoctype.size());
    while (!rest_.empty()) {
      const std::string wrong = rest_[0] == '<' ? Tag() : Text();
      if (!wrong.empty()) return wrong + " before: " + std::string(rest_.substr(0, 60));
    }
    return open_.empty() ? "" : "not closed: " + open_.back();
  }

 private:
  static std::string WrongCharacter(std::string_view text) {
    while (!text.empty()) {
      const core::Utf8Front front = core::ClassifyFront(text);
      if (front.kind != core::Utf8Front::kWhole) return "not UTF-8";
      if (front.character < 0x20 && front.character != '\n' && front.character != '\t') return "a control character";
      text.remove_prefix(front.length);
    }
    return "";
  }

  static std::string WrongEntity(std::string_view text) {
    for (size_t at = text.find('&'); at != std::string_view::npos; at = text.find('&', at + 1)) {
      const std::string_view rest = text.substr(at);
      const bool known = rest.starts_with("&amp;") || rest.starts_with("&lt;") || rest.starts_with("&gt;") ||
                         rest.starts_with("&quot;") || rest.starts_with("&#39;") || rest.starts_with("&#177;");
      if (!known) return "an unknown entity";
    }
    return "";
  }

  std::string Text() {
    const std::string_view text = rest_.substr(0, rest_.find('<'));
    rest_.remove_prefix(text.size());
    return WrongEntity(text);
  }

  std::string_view Name() {
    const auto end = std::find_if(rest_.begin(), rest_.end(), [](char c) {
      return !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-');
    });
    const std::string_view name = rest_.substr(0, static_cast<size_t>(end - rest_.begin()));
    rest_.remove_prefix(name.size());
    return name;
  }

  bool Skip(std::string_view what) {
    if (!rest_.starts_with(what)) return false;
    rest_.remove_prefix(what.size());
    return true;
  }

  std::string Tag() {
    if (Skip("</")) {
      const std::string_view name = Name();
      if (open_.empty() || open_.back() != name) return "does not close what is open: " + std::string(name);
      open_.pop_back();
      return Skip(">") ? "" : "an end tag with more than a name";
    }
    Skip("<");
    const std::string name(Name());
    if (name.empty()) return "a tag without a name";
    while (Skip(" ")) {
      if (Name().empty() || !Skip("=\"")) return "an attribute without a quoted value";
      const std::string_view value = rest_.substr(0, rest_.find('"'));
      if (value.find('<') != std::string_view::npos) return "a tag in an attribute";
      if (const std::string wrong = WrongEntity(value); !wrong.empty()) return wrong;
      rest_.remove_prefix(std::min(rest_.size(), value.size() + 1));
    }
    if (Skip("/>")) return "";
    open_.push_back(name);
    return Skip(">") ? "" : "a tag does not end";
  }

  std::string_view rest_;
  std::vector<std::string> open_;
};

inline std::string MarkupError(std::string_view page) { return MarkupReader(page).Error(); }

}  // namespace conclave::launch
