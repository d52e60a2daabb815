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
  // Reads <model_dir>/tokenizer.json (or tekken.json). Errors: NotFound, InvalidArgument naming the file.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(const std::string& model_dir);
  ~Tokenizer();

  absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text, bool add_special_tokens) const;
  absl::StatusOr<std::string> Decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const;
  int32_t vocab_size() const;           // added tokens included
  const std::string& sha256() const;    // of the tokenizer file
  // -1 when the token is not in the vocabulary.
  int32_t TokenId(const std::string& token) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Decodes a growing sequence piece by piece; what it has returned so far never changes.
// Holds back bytes of an incomplete UTF-8 character. One thread; one object per sequence.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(std::shared_ptr<const Tokenizer> tokenizer);
  std::string Push(int32_t token);  // newly certain text, possibly empty
  std::string Finish();             // the rest

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<int32_t> ids_;
  size_t prefix_ = 0, read_ = 0;  // window of ids_ that is decoded again at each push
};

}  // namespace tramontane
