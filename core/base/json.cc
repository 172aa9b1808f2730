// SPDX-License-Identifier: Apache-2.0
// One pass, one loop, no recursion: brackets that are open stand on a stack. Nothing is allocated per value: texts are
// decoded into one buffer, keys of open objects lie one behind the other.
#include "core/base/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/charconv.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"

namespace conclave::core {
namespace {

// The keys of all open objects, innermost last, in a hash table of open addressing. What came last goes first, so to
// remove a key is to empty its slot. The hash has a seed of its own in each process: no choice of keys makes it slow.
class OpenKeys {
 public:
  // `object` numbers the open objects from outside. False if that object has the key already.
  bool Add(uint32_t object, std::string_view key) {
    if (3 * slots_.size() <= 4 * keys_.size()) Grow();
    const uint32_t hash = static_cast<uint32_t>(absl::HashOf(object, key));
    size_t slot = hash & (slots_.size() - 1);
    for (; slots_[slot].number != 0; slot = (slot + 1) & (slots_.size() - 1)) {
      const size_t other = slots_[slot].number - 1;
      if (slots_[slot].hash == hash && keys_[other].object == object && Text(other) == key) return false;
    }
    keys_.push_back({.hash = hash, .object = object, .begin = static_cast<uint32_t>(bytes_.size())});
    bytes_.append(key);
    slots_[slot] = {.hash = hash, .number = static_cast<uint32_t>(keys_.size())};
    return true;
  }

  void CloseObject(uint32_t object) {
    const bool is_alone = !keys_.empty() && keys_.front().object == object;
    if (is_alone && keys_.size() > slots_.size() / 8) {  // cheaper than slot by slot
      std::fill(slots_.begin(), slots_.end(), Slot{});
      keys_.clear();
      bytes_.clear();
    }
    for (; !keys_.empty() && keys_.back().object == object; keys_.pop_back()) {
      size_t slot = keys_.back().hash & (slots_.size() - 1);
      while (slots_[slot].number != keys_.size()) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = {};
      bytes_.resize(keys_.back().begin);
    }
  }

 private:
  struct Key {
    uint32_t hash, object;
    uint32_t begin;  // in bytes_
  };
  struct Slot {
    uint32_t hash = 0;
    uint32_t number = 0;  // of the key, from 1; 0 = empty
  };

  std::string_view Text(size_t index) const {
    const size_t end = index + 1 < keys_.size() ? keys_[index + 1].begin : bytes_.size();
    return std::string_view(bytes_).substr(keys_[index].begin, end - keys_[index].begin);
  }

  void Grow() {
    slots_.assign(std::max<size_t>(2 * slots_.size(), 64), Slot{});
    for (size_t i = 0; i < keys_.size(); ++i) {
      size_t slot = keys_[i].hash & (slots_.size() - 1);
      while (slots_[slot].number != 0) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = {.hash = keys_[i].hash, .number = static_cast<uint32_t>(i + 1)};
    }
  }

  std::vector<Key> keys_;
  std::string bytes_;
  std::vector<Slot> slots_;  // a power of two of them
};

// ASCII that stands for itself within quotes.
constexpr std::array<bool, 256> kPlain = [] {
  std::array<bool, 256> plain{};
  for (int c = 0x20; c < 0x80; ++c) plain[static_cast<size_t>(c)] = c != '"' && c != '\\';
  return plain;
}();

class Parser {
 public:
  Parser(std::string_view text, const JsonLimits& limits, JsonEvents& events)
      : text_(text), limits_(limits), events_(events) {}

  // False after the first error.
  bool Run() {
    if (!Value()) return false;
    while (!open_.empty()) {
      SkipBlanks();
      const bool in_object = open_.back() == '{';
      if (Take(in_object ? '}' : ']')) {
        if (!Close()) return false;
        continue;
      }
      if (!std::exchange(is_first_, false) && !Take(',')) return Expected(in_object ? "',' or '}'" : "',' or ']'");
      if (in_object && !Key()) return false;
      if (!Value()) return false;
    }
    SkipBlanks();
    return at_ == text_.size() || Expected("nothing more");
  }

  const std::string& problem() const { return problem_; }
  size_t place() const { return place_; }  // of the problem

 private:
  unsigned char Byte(size_t i) const { return i < text_.size() ? static_cast<unsigned char>(text_[i]) : 0; }
  bool IsDigit(size_t i) const { return Byte(i) >= '0' && Byte(i) <= '9'; }
  bool Take(char c) {
    if (Byte(at_) != static_cast<unsigned char>(c)) return false;
    ++at_;
    return true;
  }
  void SkipBlanks() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
      ++at_;
    }
  }

  bool Stop(size_t place, std::string problem) {
    place_ = place;
    problem_ = std::move(problem);
    return false;
  }
  bool Invalid(size_t place, std::string_view why) { return Stop(place, absl::StrFormat("not valid JSON: %s", why)); }
  bool Expected(std::string_view what) {
    const std::string_view rest = text_.substr(at_, 20);
    if (rest.empty()) return Invalid(at_, absl::StrFormat("the text ends where %s is expected", what));
    return Invalid(at_, absl::StrFormat("%s is expected, not %s", what, Quoted(rest.substr(0, rest.find('\n', 1)))));
  }
  // What the reader of the token says to it.
  bool Pass(bool accepted) { return accepted || Stop(token_, events_.problem()); }

  bool Value() {
    SkipBlanks();
    token_ = at_;
    const unsigned char c = Byte(at_);
    if (c == '{' || c == '[') return Open();
    is_first_ = false;
    if (c == '"') return String() && Pass(events_.String(buffer_));
    if (c == '-' || IsDigit(at_)) return Number();
    if (TakeWord("null")) return Pass(events_.Null());
    if (TakeWord("true")) return Pass(events_.Bool(true));
    if (TakeWord("false")) return Pass(events_.Bool(false));
    return Expected("a value");
  }

  bool TakeWord(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  bool Open() {
    if (open_.size() == static_cast<size_t>(limits_.max_depth)) {
      return Stop(at_, absl::StrFormat("nested deeper than %d levels", limits_.max_depth));
    }
    is_first_ = true;
    open_ += text_[at_++];
    return Pass(open_.back() == '{' ? events_.BeginObject() : events_.BeginArray());
  }

  bool Close() {
    token_ = at_ - 1;
    is_first_ = false;
    const bool is_object = open_.back() == '{';
    if (is_object) keys_.CloseObject(static_cast<uint32_t>(open_.size()));
    open_.pop_back();
    return Pass(is_object ? events_.EndObject() : events_.EndArray());
  }

  bool Key() {
    SkipBlanks();
    token_ = at_;
    if (Byte(at_) != '"') return Expected("a key in double quotes");
    if (!String()) return false;
    const bool compare =
        limits_.checks == JsonChecks::kAll || (limits_.checks == JsonChecks::kTopLevel && open_.size() == 1);
    if (compare && !keys_.Add(static_cast<uint32_t>(open_.size()), buffer_)) {
      return Stop(token_, absl::StrCat("duplicate key ", Quoted(buffer_)));
    }
    if (!Pass(events_.Key(buffer_))) return false;
    SkipBlanks();
    return Take(':') || Expected("':'");
  }

  // Decodes the text in quotes at at_ into buffer_.
  bool String() {
    buffer_.clear();
    for (++at_;;) {
      const size_t begin = at_;
      size_t length = 0;
      do {
        at_ += length;
        while (at_ < text_.size() && kPlain[static_cast<unsigned char>(text_[at_])]) ++at_;
        length = Byte(at_) < 0x80 ? 0 : Utf8Length(text_.substr(at_, 4));
      } while (length > 0);
      buffer_.append(text_, begin, at_ - begin);
      if (at_ == text_.size()) return Invalid(token_, "the text ends within these quotes");
      const unsigned char c = Byte(at_);
      if (c >= 0x80) return Invalid(at_, absl::StrFormat("byte 0x%02x is not UTF-8", c));
      if (c < 0x20) return Invalid(at_, absl::StrFormat("control character 0x%02x within quotes; write \\u%04x", c, c));
      if (Take('"')) return true;
      if (!Escape()) return false;
    }
  }

  bool Escape() {
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const unsigned char c = Byte(at_ + 1);
    if (const size_t i = kNames.find(static_cast<char>(c)); i != std::string_view::npos) {
      buffer_ += kMeanings[i];
      at_ += 2;
      return true;
    }
    if (c != 'u') return Invalid(at_, absl::StrCat("there is no escape ", Quoted(text_.substr(at_, 2))));
    const size_t begin = at_;
    uint32_t code_point = 0, low = 0;
    if (!CodeUnit(code_point)) return false;
    if (code_point >= 0xD800 && code_point < 0xE000) {
      if (code_point >= 0xDC00 || Byte(at_) != '\\' || Byte(at_ + 1) != 'u') return Invalid(begin, kSurrogate);
      if (!CodeUnit(low)) return false;
      if (low < 0xDC00 || low >= 0xE000) return Invalid(begin, kSurrogate);
      code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
    }
    AppendUtf8(code_point, buffer_);
    return true;
  }

  // The four digits behind \u.
  bool CodeUnit(uint32_t& unit) {
    const std::string_view digits = text_.substr(std::min(at_ + 2, text_.size()), 4);
    const char* const end = digits.data() + digits.size();
    const std::from_chars_result result = std::from_chars(digits.data(), end, unit, 16);
    if (digits.size() < 4 || result.ptr != end) {
      return Invalid(at_, "\\u needs four hexadecimal digits");
    }
    at_ += 6;
    return true;
  }

  bool Digits() {
    if (!IsDigit(at_)) return Expected("a digit");
    while (IsDigit(at_)) ++at_;
    return true;
  }

  bool Number() {
    const bool is_negative = Take('-');
    if (Byte(at_) == '0' && IsDigit(at_ + 1)) return Invalid(token_, "a number does not begin with a zero");
    if (!Digits()) return false;
    const size_t whole_end = at_;
    if (Take('.') && !Digits()) return false;
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      if (!Digits()) return false;
    }
    const std::string_view number = text_.substr(token_, at_ - token_);
    return at_ == whole_end ? Whole(number, is_negative) : Double(number);
  }

  bool Whole(std::string_view number, bool is_negative) {
    const char* const end = number.data() + number.size();
    int64_t negative = 0;
    uint64_t positive = 0;
    const std::errc error = is_negative ? std::from_chars(number.data(), end, negative).ec
                                        : std::from_chars(number.data(), end, positive).ec;
    if (error == std::errc()) return Pass(is_negative ? events_.Negative(negative) : events_.Unsigned(positive));
    return Double(number);
  }

  bool Double(std::string_view number) {
    double value = 0;
    // Out of range is what is too large, which ends at the largest double, and what is too small, which ends near zero.
    const auto result = absl::from_chars(number.data(), number.data() + number.size(), value);
    if (result.ec != std::errc() && std::abs(value) > 1) {
      return Stop(token_, absl::StrCat(Quoted(number), " is too large for a double"));
    }
    return Pass(events_.Float(value, number));
  }

  static constexpr std::string_view kSurrogate = "half of a surrogate pair (\\ud800 to \\udfff) stands alone";

  const std::string_view text_;
  const JsonLimits limits_;
  JsonEvents& events_;
  size_t at_ = 0, token_ = 0;  // token_: where the value or key at hand begins
  std::string open_;           // brackets
  bool is_first_ = false;      // nothing stands between at_ and the innermost of them
  OpenKeys keys_;
  std::string buffer_;
  std::string problem_;
  size_t place_ = 0;
};

absl::Status ErrorAt(std::string_view text, size_t place, const JsonSource& source, std::string_view problem) {
  const std::string_view before = text.substr(0, place);
  const int64_t line = source.first_line + std::count(before.begin(), before.end(), '\n');
  const size_t column = before.size() - (before.rfind('\n') + 1) + 1;  // npos + 1 = 0
  const std::string_view colon = source.name.empty() ? "" : ":";
  return absl::InvalidArgumentError(absl::StrFormat("%s%s%d:%d: %s", source.name, colon, line, column, problem));
}

}  // namespace

bool JsonEvents::Refuse(std::string why) {
  problem_ = std::move(why);
  return false;
}

bool JsonEvents::Null() { return Refuse("null is not allowed here"); }
bool JsonEvents::Bool(bool) { return Refuse("true and false are not allowed here"); }
bool JsonEvents::Negative(int64_t) { return Refuse("a negative number is not allowed here"); }
bool JsonEvents::Unsigned(uint64_t) { return Refuse("a number is not allowed here"); }
bool JsonEvents::Float(double, std::string_view text) {
  return Refuse(absl::StrCat("a number with fraction or exponent is not allowed here: ", Quoted(text)));
}
bool JsonEvents::String(std::string& text) { return Refuse(absl::StrCat("text is not allowed here: ", Quoted(text))); }
bool JsonEvents::Key(std::string&) { return true; }
bool JsonEvents::BeginObject() { return Refuse("an object is not allowed here"); }
bool JsonEvents::BeginArray() { return Refuse("an array is not allowed here"); }

absl::Status ReadJson(std::string_view text, const JsonSource& source, const JsonLimits& limits, JsonEvents& events) {
  CHECK_LE(limits.max_bytes, std::numeric_limits<uint32_t>::max());
  if (text.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes; at most %d are read", source.name, text.size(), limits.max_bytes));
  }
  if (text.starts_with("\xEF\xBB\xBF")) return ErrorAt(text, 0, source, "a byte order mark; save the file without it");
  if (const size_t zero = text.substr(0, 4).find('\0'); zero != std::string_view::npos) {
    return ErrorAt(text, zero, source, "a zero byte; JSON is UTF-8, this may be UTF-16 or no text at all");
  }
  Parser parser(text, limits, events);
  return parser.Run() ? absl::OkStatus() : ErrorAt(text, parser.place(), source, parser.problem());
}

}  // namespace conclave::core
