// Text to ids and back, by the Hugging Face `tokenizers` crate (text/rust), so that ids equal
// transformers' exactly. Thread-safe: all members are const.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tramontane {

class Tokenizer {
 public:
  // Reads <model_dir>/tokenizer.json, or tekken.json where that is absent, and the settings around
  // it as transformers does. Errors: NotFound, InvalidArgument naming the file.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(const std::string& model_dir);
  ~Tokenizer();

  // InvalidArgument when `text` is not UTF-8.
  absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text,
                                              bool add_special_tokens) const;
  // Ids that are no token decode to nothing; negative ones are InvalidArgument.
  absl::StatusOr<std::string> Decode(const std::vector<int32_t>& ids,
                                     bool skip_special_tokens) const;
  int32_t vocab_size() const;         // added tokens included
  const std::string& sha256() const;  // of the tokenizer file
  // -1 when the token is not in the vocabulary.
  int32_t TokenId(const std::string& token) const;

 private:
  friend class GrammarCompiler;
  friend class IncrementalDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Decodes a growing sequence piece by piece, special tokens kept; what it has returned so far never
// changes, and all of it together equals Decode(). Holds back bytes of an incomplete character.
// For the rare tokenizers whose decoder looks at neighbours (WordPiece, clean-up of spaces)
// everything comes at Finish(). One thread; one object per sequence.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(std::shared_ptr<const Tokenizer> tokenizer);
  std::string Push(int32_t token);  // newly certain text, possibly empty
  std::string Finish();             // the rest; starts a new sequence

 private:
  std::string PushText(int32_t token);
  std::string EndByteRun();
  std::string Strip(std::string text);

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::string pending_;       // bytes that are not text yet
  std::vector<int32_t> ids_;  // only where nothing is certain before the end
  uint32_t strip_left_ = 0;   // leading spaces that may still be dropped
  bool first_ = true;         // no token seen yet
};

}  // namespace tramontane
