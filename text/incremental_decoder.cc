#include <utility>

#include "text/tokenizer.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace tramontane {

using Mode = PieceTable::Mode;
using Kind = PieceTable::Kind;

IncrementalDecoder::IncrementalDecoder(std::shared_ptr<const Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)), strip_left_(tokenizer_->impl_->pieces.strip_left()) {}

std::string IncrementalDecoder::Push(int32_t token) {
  const PieceTable& pieces = tokenizer_->impl_->pieces;
  std::string out;
  switch (pieces.mode()) {
    case Mode::kWhole:
      ids_.push_back(token);
      break;
    case Mode::kBytes:
      pending_.append(pieces.piece(token));
      pending_.erase(0, AppendCertainUtf8(pending_, &out));
      break;
    case Mode::kText:
    case Mode::kTextFirst:
      out = PushText(token);
      break;
  }
  return out;
}

std::string IncrementalDecoder::PushText(int32_t token) {
  const PieceTable& pieces = tokenizer_->impl_->pieces;
  const Kind kind = pieces.kind(token);
  if (kind == Kind::kNoToken) return "";
  const bool first = std::exchange(first_, false);
  if (kind == Kind::kRawByte) {
    pending_.append(pieces.piece(token));  // text only once the run is complete
    return "";
  }
  if (first && pieces.mode() == Mode::kTextFirst) {
    return tokenizer_->Decode({token}, false).value_or("");
  }
  std::string out = EndByteRun();
  out.append(pieces.piece(token));
  return Strip(std::move(out));
}

std::string IncrementalDecoder::EndByteRun() {
  const std::string run = std::exchange(pending_, "");
  if (IsValidUtf8(run)) return run;
  std::string out;
  for (size_t i = 0; i < run.size(); ++i) out.append(kReplacementCharacter);
  return out;
}

// Drops spaces while they are still the first characters of the whole text.
std::string IncrementalDecoder::Strip(std::string text) {
  size_t drop = 0;
  while (strip_left_ > 0 && drop < text.size() && text[drop] == ' ') {
    ++drop;
    --strip_left_;
  }
  if (drop < text.size()) strip_left_ = 0;
  return text.substr(drop);
}

std::string IncrementalDecoder::Finish() {
  const PieceTable& pieces = tokenizer_->impl_->pieces;
  std::string out;
  switch (pieces.mode()) {
    case Mode::kWhole:
      out = tokenizer_->Decode(ids_, false).value_or("");
      break;
    case Mode::kBytes:
      // What is left is one incomplete character.
      if (!pending_.empty()) out = std::string(kReplacementCharacter);
      break;
    case Mode::kText:
    case Mode::kTextFirst:
      out = Strip(EndByteRun());
      break;
  }
  pending_.clear();
  ids_.clear();
  strip_left_ = pieces.strip_left();
  first_ = true;
  return out;
}

}  // namespace tramontane
