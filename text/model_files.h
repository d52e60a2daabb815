// The text files of a Hugging Face model folder, read with size caps. Used only inside text/.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "text/rust_text.h"

namespace tramontane {

// Contents of the small files around a tokenizer; empty where a file is absent.
struct TokenizerSettings {
  std::string tokenizer_config, special_tokens_map, added_tokens, model_config;

  // Borrows from *this.
  rust_text::tt_tokenizer_files Borrow(const std::string& tokenizer, bool is_tekken) const;
};

// Files above the cap, or that cannot be read, are errors that name the path.
absl::StatusOr<TokenizerSettings> ReadTokenizerSettings(const std::string& model_dir);

// Empty when the file does not exist.
absl::StatusOr<std::string> ReadOptionalFile(const std::string& path, size_t max_bytes);

}  // namespace tramontane
