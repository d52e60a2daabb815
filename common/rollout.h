// The records that travel through the loop. Plain values, no protobuf, no torch.
//
//   PromptRow   one dataset row, tokenised
//   GroupTask   one prompt to be sampled `samples` times, issued by the trainer's prompt cursor
//   Rollout     one finished sample, with its verdict
//   Group       a task and all of its rollouts; the unit that is journalled and trained on
//
// common/record_io.h writes them to bytes and back.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/thinking.h"

namespace tramontane {

using Json = nlohmann::json;

struct PromptMessage {
  std::string role;
  std::string content;  // its texts

  bool operator==(const PromptMessage&) const = default;
};

struct PromptRow {
  std::string row_id;                   // unique within its dataset; "file.jsonl:17" unless given
  std::string prompt;                   // text as the model sees it (chat template applied)
  std::vector<int32_t> prompt_tokens;   // the truth; `prompt` is derived
  std::vector<PromptMessage> messages;  // what the template was given; empty: a plain text
  std::string answer;                   // gold answer handed to the verifier
  std::string verifier;                 // key of the config's `verifiers` map
  Json params = Json::object();         // passed to the verifier unchanged
};

struct SamplingParams {
  double temperature = 1.0;  // 0 = greedy
  double top_p = 1.0;        // 1 = off
  int32_t top_k = 0;         // 0 = off
  double min_p = 0.0;        // 0 = off
  int32_t max_new_tokens = 0;
  uint64_t seed = 0;  // sample i of a request draws from stream (seed, i, position)
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;  // added to the model's own EOS ids
  bool ignore_eos = false;
  // A sample ends where its last `repetition_tokens` sampled tokens are one and the same piece, at
  // least `repetition_times` over; 0 tokens: nowhere.
  int32_t repetition_tokens = 0, repetition_times = 4;
  std::optional<ThinkingParams> thinking;  // absent: no control

  bool operator==(const SamplingParams&) const = default;
};

enum class Purpose { kTrain, kEval };

struct GroupTask {
  std::string gid;      // 32 hex digits, H(run id, purpose, cursor); identity everywhere
  uint64_t cursor = 0;  // position in the issue order of its purpose
  Purpose purpose = Purpose::kTrain;
  int32_t samples = 0;  // G
  PromptRow row;
  SamplingParams sampling;
  int64_t issued_version = 0;  // trainer's weight version when issued
  int64_t trainer_epoch = 0;   // fencing epoch of the trainer that issued it
  bool wants_routes = false;   // rollouts say through which experts their tokens went
  // Two layers: the first `answers` samples answer the prompt, the others correct an answer each,
  // as many of each in its order. 0: one layer.
  int32_t answers = 0;
  bool corrections_by_prompt = false;  // all corrections are one group
  // Of the reward's parts, by name, in place of the verifier's own; empty: those.
  std::map<std::string, double> reward_weights;
};

// kTimeout: the request's deadline passed; what was sampled until then is there. kRepetition: the
// sample went round in circles (SamplingParams::repetition_tokens).
enum class FinishReason { kUnspecified, kStop, kLength, kAborted, kError, kTimeout, kRepetition };

// A run of consecutive tokens sampled by one weight version.
struct VersionSpan {
  int64_t version = 0;
  int32_t count = 0;

  bool operator==(const VersionSpan&) const = default;
};

// A run of consecutive tokens of a response.
struct TokenSpan {
  int32_t begin = 0, count = 0;

  bool operator==(const TokenSpan&) const = default;
};

// What a response's tokens were spent on.
struct TokenUsage {
  int32_t thinking = 0;  // sampled strictly between the first think tags
  int32_t answer = 0;    // all other sampled tokens, the tags' own and the end token included
  int32_t injected = 0;  // not sampled: put in by thinking control, a tool or an environment

  bool operator==(const TokenUsage&) const = default;
};

enum class VerdictStatus {
  kUnspecified,
  kScored,
  kPolicyFailure,
  kTimeout,
  kInfraFailure,
  kSkipped,  // the verifier has nothing to say about this one
};

// Whose fault an infrastructure failure is: whether another try may help depends on it.
enum class Fault { kVerifier, kRow, kSandbox };

// What a verifier says of one completion. `score` exists only for kScored and kPolicyFailure
// (a completion that is wrong by its own fault); an infrastructure failure never carries one.
struct Verdict {
  VerdictStatus status = VerdictStatus::kUnspecified;
  std::optional<double> score;
  std::map<std::string, double> components;  // name → weighted contribution to score
  std::map<std::string, double> metrics;     // free numbers for the researcher; all finite
  bool correct = false;                      // accuracy, apart from format and shaping
  std::string extracted;                     // the answer found in the completion, if any
  std::string feedback;                      // one short line for a person
  std::string verifier;                      // name
  std::string verifier_version;
  std::string verifier_digest;
  double queue_seconds = 0;
  double exec_seconds = 0;
  Fault fault = Fault::kVerifier;  // of kInfraFailure, between grader and service; kept nowhere
};

// In a rollout's routes: the token was not computed under these experts, or nobody noted them.
inline constexpr uint8_t kNoRoute = 255;

struct Rollout {
  int32_t sample_index = 0;
  std::vector<int32_t> tokens;     // response only; the stop token is included when sampled
  std::vector<float> logprobs;     // natural log, of the distribution sampled from, per token;
                                   // 0 and without meaning where a token was injected
  std::vector<VersionSpan> spans;  // counts sum to tokens.size(); versions never fall
  // Tokens that the policy did not sample: they are never trained on. In order, disjoint.
  std::vector<TokenSpan> injected;
  TokenUsage usage;
  // Through which experts each token of prompt and response went, but for the last, which no
  // computation followed: [tokens − 1, expert layers, experts per token], the likeliest first, or
  // kNoRoute for all of a token's in a layer. Empty unless the task asks for them.
  std::vector<uint8_t> routes;
  FinishReason finish_reason = FinishReason::kUnspecified;
  std::string text;  // derived from tokens, special tokens kept
  Verdict verdict;
  double generate_seconds = 0;
  int32_t cached_prompt_tokens = 0;  // whose keys were there already; for serving, kept nowhere
};

struct Group {
  GroupTask task;
  std::vector<Rollout> rollouts;
  std::string generator_id;
};

// Whether the spans are in order, disjoint, not empty and inside `tokens` tokens.
bool AreDisjointSpans(const std::vector<TokenSpan>& spans, size_t tokens);
int64_t CountTokens(const std::vector<TokenSpan>& spans);
// Whether all verdicts that judge were given by the same version of their verifier.
bool OneVerifierVersion(const std::vector<Rollout>& rollouts);
int64_t MinVersion(const Rollout& rollout);  // issued version of the oldest token; 0 if empty
int64_t MaxVersion(const Rollout& rollout);
const char* ToString(FinishReason reason);   // "stop", "length", …
const char* ToString(VerdictStatus status);  // "scored", "policy_failure", …
const char* ToString(Purpose purpose);       // "train", "eval"

}  // namespace tramontane
