// A body of /v1/completions or /v1/chat/completions, read, checked and tokenised. Pure functions of
// the body and the model served; any thread.
//
// Fields are OpenAI's, with vLLM's additions where clients use them. A field that is unknown, or
// known and asking for what is not here, is an error that names it; nothing is silently ignored but
// what cannot change the answer (user, store, metadata, …).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/search/search_ask.h"
#include "generator/session_store.h"
#include "text/chat_template.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace tramontane {

// What the endpoint knows of the model it serves. Immutable.
struct ServedModel {
  std::string name;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null: the model has none
  std::shared_ptr<GrammarCompiler> grammars;
  int64_t context_tokens = 0;  // prompt and answer together
  int32_t vocab_size = 0;      // ids that the model can draw
  std::string think_open = "<think>", think_close = "</think>";
  double default_timeout_s = 600;  // also the longest that may be asked for
  int32_t max_samples = 4096;      // of one request, over all its prompts
};

struct ApiPrompt {
  std::vector<int32_t> tokens;
  std::string text;
};

struct CompletionRequest {
  bool chat = false;
  bool stream = false, include_usage = false;
  bool echo = false;     // the answer begins with the prompt
  bool generate = true;  // false: echo alone (max_tokens 0)
  bool return_token_ids = false;
  bool tokens_as_ids = false;           // logprobs name tokens "token_id:17"
  std::optional<int32_t> top_logprobs;  // set: log-probabilities, with that many alternatives
  int32_t n = 1;                        // samples of each prompt
  std::vector<ApiPrompt> prompts;
  SamplingParams sampling;
  std::map<int32_t, float> logit_bias;
  std::shared_ptr<const Grammar> grammar;  // null: free text
  int32_t grammar_after_token = -1;        // the grammar begins behind this token; -1: at once
  bool split_reasoning = false;            // reasoning_content apart from content
  bool reasoning_open = false;             // the answer begins inside the think tags
  std::optional<std::string>
      answer_opening;  // a chat's: the end of the prompt that is the answer's
  double timeout_s = 0;
  int64_t max_tokens = -1;              // as it was asked for; -1: it was not
  std::string session;                  // "new" or an id; empty: none
  std::shared_ptr<SessionTurn> turn;    // of that session, once the endpoint has taken it
  int64_t session_kept_tokens = 0;      // of its earlier turns, with which a chat's prompt begins
  std::optional<SearchAsk> search;      // one answer for each prompt, the one found
  std::vector<PromptMessage> messages;  // a chat's, for verifiers
};

// Takes the session that the request names. A completion's prompt is then everything said so far. A
// chat's messages are everything already: where their text begins with what was said, the tokens of
// that are the session's own and only the rest is tokenised; where it does not (the template or the
// client tells earlier messages otherwise) the prompt stays what the messages say, and the session
// becomes that. NotFound, Aborted (409), ResourceExhausted; InvalidArgument where the context is
// too long by now.
absl::Status TakeSession(SessionStore& sessions, const ServedModel& model,
                         CompletionRequest& request);

// Errors as api_error.h lists them.
absl::StatusOr<CompletionRequest> ReadCompletion(const std::string& body, const ServedModel& model);
absl::StatusOr<CompletionRequest> ReadChat(const std::string& body, const ServedModel& model);

}  // namespace tramontane
