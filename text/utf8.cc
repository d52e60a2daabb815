#include "text/utf8.h"

#include <cstdint>

namespace tramontane {
namespace {

enum class Outcome { kValid, kInvalid, kIncomplete };

struct Step {
  Outcome outcome;
  size_t size;  // bytes of the character, or of the invalid part
};

// The character at the front of `bytes`, which is not empty. Table 3-7 of the Unicode standard.
Step Next(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return {Outcome::kValid, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Outcome::kInvalid, 1};
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint8_t low = 0x80, high = 0xBF;  // bounds of the second byte
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < size; ++i) {
    if (i == bytes.size()) return {Outcome::kIncomplete, i};
    if (at(i) < low || at(i) > high) return {Outcome::kInvalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Outcome::kValid, size};
}

}  // namespace

size_t AppendCertainUtf8(std::string_view bytes, std::string* out) {
  size_t done = 0;
  while (done < bytes.size()) {
    const Step step = Next(bytes.substr(done));
    if (step.outcome == Outcome::kIncomplete) break;
    if (step.outcome == Outcome::kValid) {
      out->append(bytes.substr(done, step.size));
    } else {
      out->append(kReplacementCharacter);
    }
    done += step.size;
  }
  return done;
}

bool IsValidUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const Step step = Next(bytes);
    if (step.outcome != Outcome::kValid) return false;
    bytes.remove_prefix(step.size);
  }
  return true;
}

}  // namespace tramontane
