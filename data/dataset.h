// Dataset files to PromptRows. Accepts our own rows and those of verl, TRL, OpenRLHF and
// verifiers; a bad row is an error with file and line, never skipped.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tramontane {

// Reads and tokenises a JSONL file. `chat_template` may be null: rows with messages are then
// errors.
absl::StatusOr<std::vector<PromptRow>> LoadPrompts(const std::string& path, const DataSection& data,
                                                   const Tokenizer& tokenizer,
                                                   const ChatTemplate* chat_template);

struct SftExample {
  std::vector<int32_t> prompt_tokens;
  std::vector<int32_t> completion_tokens;  // ends with the end token
};
// Rows {"prompt"|"messages", "completion"}.
absl::StatusOr<std::vector<SftExample>> LoadSftExamples(const std::string& path,
                                                        const Tokenizer& tokenizer,
                                                        const ChatTemplate* chat_template,
                                                        int32_t eos_token_id);

}  // namespace tramontane
