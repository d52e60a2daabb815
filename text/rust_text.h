// The C interface of text/rust (its lib.rs is the other side) and the owners of what it returns.
// Used only inside text/. Handles may be shared between threads (a tt_grammar_state belongs to one
// at a time); no call blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace tramontane::rust_text {

extern "C" {

struct tt_tokenizer;
struct tt_template;
struct tt_grammars;
struct tt_grammar;
struct tt_grammar_state;

struct tt_slice {
  const uint8_t* data;
  size_t size;
};
struct tt_bytes {
  uint8_t* data;
  size_t size;
  size_t capacity;
};
// Contents of the files of a model folder; empty where absent.
struct tt_tokenizer_files {
  tt_slice tokenizer;
  bool is_tekken;
  tt_slice tokenizer_config;
  tt_slice special_tokens_map;
  tt_slice added_tokens;
  tt_slice model_config;
};

tt_tokenizer* tt_tokenizer_new(const tt_tokenizer_files* files, tt_bytes* error);
void tt_tokenizer_free(tt_tokenizer* tokenizer);
int32_t tt_tokenizer_encode(const tt_tokenizer* tokenizer, tt_slice text, bool add_special_tokens,
                            tt_bytes* out, tt_bytes* error);
int32_t tt_tokenizer_decode(const tt_tokenizer* tokenizer, const uint32_t* ids, size_t count,
                            bool skip_special_tokens, tt_bytes* out, tt_bytes* error);
uint32_t tt_tokenizer_vocab_size(const tt_tokenizer* tokenizer);
int64_t tt_tokenizer_token_id(const tt_tokenizer* tokenizer, tt_slice token);
int32_t tt_tokenizer_pieces(const tt_tokenizer* tokenizer, tt_bytes* out, tt_bytes* error);

tt_template* tt_template_new(tt_slice templates, const tt_tokenizer_files* files, tt_bytes* error);
void tt_template_free(tt_template* chat_template);
int32_t tt_template_render(const tt_template* chat_template, tt_slice context, tt_bytes* out,
                           tt_bytes* error);

tt_grammars* tt_grammars_new(const tt_tokenizer* tokenizer, uint32_t vocab_size, tt_bytes* error);
void tt_grammars_free(tt_grammars* grammars);
uint32_t tt_grammars_end(const tt_grammars* grammars);
tt_grammar* tt_grammar_new(const tt_grammars* grammars, bool is_regex, tt_slice source,
                           tt_bytes* error);
void tt_grammar_free(tt_grammar* grammar);
tt_grammar_state* tt_grammar_start(const tt_grammar* grammar, tt_bytes* error);
int32_t tt_grammar_allowed(tt_grammar_state* state, uint32_t* words, size_t count, tt_bytes* error);
int32_t tt_grammar_accept(tt_grammar_state* state, uint32_t token, tt_bytes* error);
void tt_grammar_state_free(tt_grammar_state* state);

void tt_bytes_free(tt_bytes bytes);

}  // extern "C"

// Frees what the library returned; also the place for a call's error message.
class Bytes {
 public:
  Bytes() = default;
  ~Bytes() {
    if (bytes_.data != nullptr) tt_bytes_free(bytes_);
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;

  tt_bytes* out() { return &bytes_; }
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes_.data), bytes_.size};
  }
  std::string str() const { return std::string(view()); }

 private:
  tt_bytes bytes_ = {nullptr, 0, 0};
};

inline tt_slice Slice(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

struct Deleter {
  void operator()(tt_tokenizer* tokenizer) const { tt_tokenizer_free(tokenizer); }
  void operator()(tt_template* chat_template) const { tt_template_free(chat_template); }
  void operator()(tt_grammars* grammars) const { tt_grammars_free(grammars); }
  void operator()(tt_grammar* grammar) const { tt_grammar_free(grammar); }
  void operator()(tt_grammar_state* state) const { tt_grammar_state_free(state); }
};
using TokenizerPtr = std::unique_ptr<tt_tokenizer, Deleter>;
using TemplatePtr = std::unique_ptr<tt_template, Deleter>;
using GrammarsPtr = std::unique_ptr<tt_grammars, Deleter>;
using GrammarPtr = std::unique_ptr<tt_grammar, Deleter>;
using GrammarStatePtr = std::unique_ptr<tt_grammar_state, Deleter>;

inline absl::Status Invalid(const std::string& where, const Bytes& error) {
  return absl::InvalidArgumentError(where + ": " + error.str());
}

}  // namespace tramontane::rust_text
