// Dataset files to PromptRows. Accepts our own rows and those of verl, TRL, OpenRLHF and
// verifiers; a bad row is an error with file and line, never skipped.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tramontane {

// What else a row must fulfil. Its errors begin with the field and come back with file and line.
using RowCheck = std::function<absl::Status(const PromptRow&)>;

// Reads and tokenises a JSONL file. `chat_template` may be null: rows with messages are then
// errors.
absl::StatusOr<std::vector<PromptRow>> LoadPrompts(const std::string& path, const DataSection& data,
                                                   const Tokenizer& tokenizer,
                                                   const ChatTemplate* chat_template,
                                                   const RowCheck& check = nullptr);

// The same rows without a tokenizer: `prompt` and `prompt_tokens` are empty.
absl::Status CheckRows(const std::string& path, const DataSection& data, const RowCheck& check);

// InvalidArgument when the row names a verifier that `config` does not have.
absl::Status CheckVerifierOf(const PromptRow& row, const RunConfig& config);

struct SftExample {
  std::vector<int32_t> prompt_tokens;
  std::vector<int32_t> completion_tokens;  // ends with the end token
};
// Rows {"prompt"|"messages", "completion"}. Where a row also has the ids of its texts
// ("prompt_tokens", "completion_tokens") by this very tokenizer ("tokenizer" is its SHA-256), the
// ids count: a text need not come back as the tokens that were sampled. They may be ids that only the
// model's padded vocabulary knows.
absl::StatusOr<std::vector<SftExample>> LoadSftExamples(const std::string& path,
                                                        const Tokenizer& tokenizer,
                                                        const ChatTemplate* chat_template,
                                                        int32_t eos_token_id);

// A preference of one completion over another, as dpo learns from.
struct PreferencePair {
  std::vector<int32_t> prompt_tokens;
  std::vector<int32_t> chosen_tokens, rejected_tokens;  // end with the end token
};
// Rows {"prompt"|"messages", "chosen", "rejected"}.
absl::StatusOr<std::vector<PreferencePair>> LoadPreferencePairs(const std::string& path,
                                                                const Tokenizer& tokenizer,
                                                                const ChatTemplate* chat_template,
                                                                int32_t eos_token_id);

}  // namespace tramontane
