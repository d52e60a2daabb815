// What each token contributes to decoded text, for tokenizers where that does not depend on its
// neighbours. Built once per tokenizer; immutable. Used only inside text/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tramontane {

class PieceTable {
 public:
  enum class Mode : uint32_t {
    kWhole = 0,      // text is certain only once the sequence is complete
    kBytes = 1,      // pieces are bytes of one UTF-8 stream, decoded with replacement
    kText = 2,       // pieces are text; a run of raw bytes is text if all of it is valid UTF-8
    kTextFirst = 3,  // as kText, but the first token's text is its own decoding
  };
  enum class Kind : uint8_t { kText = 0, kRawByte = 1, kNoToken = 2 };

  // Reads the layout that text/rust/src/pieces.rs writes.
  static absl::StatusOr<PieceTable> Parse(std::string_view bytes);

  Mode mode() const { return mode_; }
  uint32_t strip_left() const { return strip_left_; }  // leading spaces dropped from the whole
  Kind kind(int32_t id) const { return InRange(id) ? kinds_[id] : Kind::kNoToken; }
  std::string_view piece(int32_t id) const {
    if (!InRange(id)) return {};
    return std::string_view(bytes_).substr(offsets_[id], offsets_[id + 1] - offsets_[id]);
  }

 private:
  bool InRange(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < kinds_.size(); }

  Mode mode_ = Mode::kWhole;
  uint32_t strip_left_ = 0;
  std::vector<uint32_t> offsets_;  // [tokens + 1] into bytes_
  std::vector<Kind> kinds_;
  std::string bytes_;
};

}  // namespace tramontane
