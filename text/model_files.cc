#include "text/model_files.h"

#include <filesystem>

#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr size_t kMaxSettingsBytes = size_t{64} << 20;

}  // namespace

absl::StatusOr<std::string> ReadOptionalFile(const std::string& path, size_t max_bytes) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::string();
  return ReadFile(path, max_bytes);
}

absl::StatusOr<TokenizerSettings> ReadTokenizerSettings(const std::string& model_dir) {
  TokenizerSettings settings;
  const auto read = [&](const char* name, std::string* out) -> absl::Status {
    ASSIGN_OR_RETURN(*out, ReadOptionalFile(model_dir + "/" + name, kMaxSettingsBytes));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read("tokenizer_config.json", &settings.tokenizer_config));
  RETURN_IF_ERROR(read("special_tokens_map.json", &settings.special_tokens_map));
  RETURN_IF_ERROR(read("added_tokens.json", &settings.added_tokens));
  RETURN_IF_ERROR(read("config.json", &settings.model_config));
  return settings;
}

rust_text::tt_tokenizer_files TokenizerSettings::Borrow(const std::string& tokenizer,
                                                        bool is_tekken) const {
  using rust_text::Slice;
  return {Slice(tokenizer),          is_tekken,           Slice(tokenizer_config),
          Slice(special_tokens_map), Slice(added_tokens), Slice(model_config)};
}

}  // namespace tramontane
