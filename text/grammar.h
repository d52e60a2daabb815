// Grammars that a completion must follow, by the `llguidance` crate (text/rust): a JSON schema, or
// a regular expression for the whole text. They say, token by token, what may come next.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "text/tokenizer.h"

namespace tramontane {

struct GrammarSource {
  bool is_regex = false;
  std::string text;  // a regular expression, or a JSON schema
};

// Where one completion stands in its grammar. One thread at a time.
class GrammarState {
 public:
  GrammarState(GrammarState&&) noexcept;
  GrammarState& operator=(GrammarState&&) noexcept;
  ~GrammarState();

  // What may come next. Internal when the grammar became too costly to follow.
  absl::Status Advance();
  bool Allows(int32_t token) const {
    return token < end_ && (words_[token / 32] >> (token % 32) & 1) != 0;
  }
  bool MayEnd() const { return (words_[end_ / 32] >> (end_ % 32) & 1) != 0; }

  // Takes a token that is allowed. True when nothing may follow it.
  absl::StatusOr<bool> Accept(int32_t token);

 private:
  friend class Grammar;
  struct Impl;
  GrammarState(std::unique_ptr<Impl> impl, int32_t end);
  std::unique_ptr<Impl> impl_;
  int32_t end_;                  // the bit behind the vocabulary: the text may end
  std::vector<uint32_t> words_;  // one bit a token, and the end
};

// Compiled. Immutable; thread-safe.
class Grammar {
 public:
  ~Grammar();
  absl::StatusOr<GrammarState> Start() const;

 private:
  friend class GrammarCompiler;
  struct Impl;
  Grammar(std::unique_ptr<Impl> impl, int32_t end);
  std::unique_ptr<Impl> impl_;
  const int32_t end_;
};

// Compiles grammars for one tokenizer. Its table of the vocabulary is made at the first use.
// Thread-safe.
class GrammarCompiler {
 public:
  // `vocab_size`: ids that the model can draw.
  GrammarCompiler(std::shared_ptr<const Tokenizer> tokenizer, int32_t vocab_size);
  ~GrammarCompiler();

  // InvalidArgument: it cannot be compiled, within bounds of size and time.
  absl::StatusOr<std::shared_ptr<const Grammar>> Compile(const GrammarSource& source);

 private:
  struct Impl;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const int32_t vocab_size_;
  std::mutex mutex_;
  std::unique_ptr<Impl> impl_;  // guarded by mutex_ until it is made
};

}  // namespace tramontane
