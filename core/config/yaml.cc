// SPDX-License-Identifier: Apache-2.0
// Text to YamlNode: the only file that knows yaml-cpp, of which it uses the event parser alone. Size, UTF-8 and control
// characters are checked before (yaml-cpp takes U+0004 for the end of the file), the rest while events arrive.
#include "core/config/yaml_node.h"

#include <algorithm>
#include <istream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/mark.h"
#include "yaml-cpp/parser.h"

#include "core/base/status_macros.h"
#include "core/base/utf8.h"

namespace conclave::core {

absl::Status ErrorAt(const YamlPlace& place, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s", ToText(place), message));
}

namespace {

constexpr char kTooDeep[] = "nested deeper than 32 levels";
static_assert(kMaxYamlDepth == 32);

// What may be structure to yaml-cpp. Cheap, so it also counts within comments and texts.
constexpr std::string_view kMarks = "[]{},:-?\"'!&*|>\n\r";

// What must hold before yaml-cpp sees the text. It takes a microsecond per token, so these are counted; it scans a line
// of open brackets to its end before the first event, so a line that nests beyond any sense is refused here; it skips
// unknown directives silently, so no line may be one.
absl::Status CheckText(std::string_view text, YamlPlace place) {
  if (text.size() > kMaxYamlBytes) {
    return ErrorAt(place, absl::StrFormat("more than %d bytes; is this a config?", kMaxYamlBytes));
  }
  constexpr int kMaxOpenBrackets = 256;
  const int step = place.line > 0 ? 1 : 0;
  int open_brackets = 0;
  size_t num_marks = 0;
  bool line_start = true;
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    const size_t length = Utf8Length(text.substr(i, 4));
    if (length == 0) return ErrorAt(place, absl::StrFormat("byte 0x%02x is not UTF-8", c));
    if (c == 0x7F || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) {
      return ErrorAt(place, absl::StrFormat("control character 0x%02x", c));
    }
    if (c == '%' && line_start) return ErrorAt(place, "directives (%...) are not supported; quote the text");
    open_brackets += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
    if (open_brackets > kMaxOpenBrackets) return ErrorAt(place, kTooDeep);
    num_marks += kMarks.find(text[i]) < kMarks.size() ? 1 : 0;
    if (num_marks > kMaxYamlMarks) {
      return ErrorAt(place, absl::StrFormat("more than %d brackets, commas, quotes, keys and lines", kMaxYamlMarks));
    }
    i += length;
    line_start = c == '\n';
    if (line_start) open_brackets = 0;
    place.column = line_start ? step : place.column + step;
    place.line += line_start ? step : 0;
  }
  return absl::OkStatus();
}

// Builds the tree on a stack of open nodes. After the first error it ignores what still comes, and ends the stream.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(YamlPlace source, std::istream& stream) : source_(source), stream_(stream) {}

  const absl::Status& status() const { return status_; }
  YamlNode Take() { return root_ ? *std::move(root_) : YamlNode{.place = source_}; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++num_documents_ > 1) Fail(Place(mark), "a second document; a file holds one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(mark, "?", anchor, {.kind = YamlNode::Kind::kNull});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { Fail(Place(mark), kAnchors); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Add(mark, tag, anchor, {.kind = YamlNode::Kind::kScalar, .text = value, .quoted = tag == "!"});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override {
    if (status_.ok()) CheckDuplicates(open_.back());
    Close();
  }

 private:
  static constexpr char kAnchors[] =
      "anchors (&name) and aliases (*name) are not supported; write the value out, or quote the text";

  YamlPlace Place(const YAML::Mark& mark) const {
    if (source_.line == 0) return source_;
    return {.source = source_.source, .line = mark.line + 1, .column = mark.column + 1};
  }

  void Fail(const YamlPlace& place, const std::string& message) {
    if (status_.ok()) status_ = ErrorAt(place, message);
    stream_.setstate(std::ios::failbit);
  }

  bool Accept(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) Fail(Place(mark), kAnchors);
    // yaml-cpp's names for "no tag": ? on plain values and collections, ! on quoted ones.
    const bool tagged = tag != "" && tag != "?" && tag != "!";
    if (tagged) Fail(Place(mark), "tags (!name) are not supported; remove it, or quote the text");
    if (++num_nodes_ > kMaxYamlNodes) Fail(Place(mark), absl::StrFormat("more than %d values", kMaxYamlNodes));
    return status_.ok();
  }

  // True if the node that comes next is a key of the innermost open map.
  bool ExpectsKey() const { return !open_.empty() && open_.back().IsMap() && !pending_key_; }

  void Add(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode node) {
    if (!Accept(mark, tag, anchor)) return;
    // yaml-cpp puts a value that is missing where the next one starts.
    node.place = node.kind == YamlNode::Kind::kNull && pending_key_ ? pending_key_->place : Place(mark);
    if (!ExpectsKey()) return Attach(std::move(node));
    if (!node.IsScalar()) return Fail(node.place, "a key must be a plain word");
    pending_key_ = std::move(node);
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (!Accept(mark, tag, anchor)) return;
    if (ExpectsKey()) return Fail(Place(mark), "a key must be a plain word; is a bracket left open?");
    if (open_.size() == kMaxYamlDepth) return Fail(Place(mark), kTooDeep);
    YamlNode node{.kind = kind, .place = Place(mark)};
    TakeKey(node);
    open_.push_back(std::move(node));
  }

  void Close() {
    if (!status_.ok()) return;
    YamlNode node = std::move(open_.back());
    open_.pop_back();
    Attach(std::move(node));
  }

  void TakeKey(YamlNode& node) {
    if (!pending_key_) return;
    node.key = std::move(pending_key_->text);
    node.key_place = pending_key_->place;
    pending_key_.reset();
  }

  void Attach(YamlNode node) {
    TakeKey(node);
    if (open_.empty()) {
      root_ = std::move(node);
    } else {
      open_.back().children.push_back(std::move(node));
    }
  }

  void CheckDuplicates(const YamlNode& map) {
    std::vector<const YamlNode*> entries;
    for (const YamlNode& child : map.children) entries.push_back(&child);
    std::stable_sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) { return a->key < b->key; });
    for (size_t i = 1; i < entries.size(); ++i) {
      if (entries[i]->key != entries[i - 1]->key) continue;
      Fail(entries[i]->key_place, absl::StrFormat("duplicate key \"%s\", given before on line %d", entries[i]->key,
                                                  entries[i - 1]->key_place.line));
    }
  }

  const YamlPlace source_;
  std::istream& stream_;
  absl::Status status_;
  int num_documents_ = 0;
  size_t num_nodes_ = 0;
  std::vector<YamlNode> open_;
  std::optional<YamlNode> pending_key_;
  std::optional<YamlNode> root_;
};

// What a newcomer can do about the usual slips; empty for others. `mark` is where yaml-cpp stopped.
std::string_view Hint(std::string_view text, const YAML::Mark& mark) {
  if (mark.pos < 0 || static_cast<size_t>(mark.pos) >= text.size()) return "";
  const size_t line_start = text.substr(0, mark.pos).rfind('\n') + 1;  // npos + 1 = 0
  const size_t first = text.find_first_not_of(" \t", line_start);
  if (text.substr(line_start, first - line_start).find('\t') != std::string_view::npos) {
    return "; the line is indented with a tab: use spaces";
  }
  if (std::string_view("*@`%").find(text[mark.pos]) != std::string_view::npos) {
    return "; a text that starts with this character needs quotes";
  }
  return "";
}

}  // namespace

std::string ToText(const YamlPlace& place) {
  if (place.line == 0) return absl::StrFormat("override \"%s\"", place.source);
  return absl::StrFormat("%s:%d:%d", place.source, place.line, place.column);
}

std::string KindText(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "keys with values";
    case YamlNode::Kind::kScalar:
      break;
  }
  return "\"" + (node.text.size() <= 80 ? node.text : node.text.substr(0, 80) + "...") + "\"";
}

YamlNode* YamlNode::Find(std::string_view name) {
  if (!IsMap()) return nullptr;
  const auto found =
      std::find_if(children.begin(), children.end(), [&](const YamlNode& child) { return child.key == name; });
  return found == children.end() ? nullptr : &*found;
}

absl::StatusOr<YamlNode> ParseYaml(std::string_view text, YamlPlace source) {
  RETURN_IF_ERROR(CheckText(text, source));
  std::istringstream stream{std::string(text)};
  TreeBuilder builder(source, stream);
  try {
    YAML::Parser parser(stream);
    while (builder.status().ok() && parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    // What the builder refused came first; the rest of the text may fail because of it.
    RETURN_IF_ERROR(builder.status());
    YamlPlace place = source;
    if (source.line > 0 && !error.mark.is_null()) {
      place.line = error.mark.line + 1;
      place.column = error.mark.column + 1;
    }
    return ErrorAt(place, absl::StrFormat("not valid YAML: %s%s", error.msg, Hint(text, error.mark)));
  }
  RETURN_IF_ERROR(builder.status());
  return builder.Take();
}

}  // namespace conclave::core
