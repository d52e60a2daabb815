// Answers as the API words them: whole, or as the events of a stream. Pure functions of what was
// sampled; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/rollout.h"
#include "generator/engine.h"
#include "services/generator/http/completion_request.h"
#include "services/generator/http/field_reader.h"

namespace tramontane {

// A stretch of one choice: all of it, or what is new in a stream.
struct ChoicePart {
  int32_t index = 0;
  std::string reasoning, text;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<uint8_t> injected;  // 1: put in, not sampled; its log-probability means nothing
  std::vector<std::vector<TokenLogprob>> alternatives;  // as asked for, likeliest first
  std::vector<VersionSpan> spans;                       // of weights, whole answers alone
  bool first = false;                                   // begins its choice
  const ApiPrompt* prompt = nullptr;                    // set on the first part
  PromptLogprobs prompt_logprobs;                       // there too, for echoed log-probabilities
  size_t text_begin = 0;                                // characters of the choice before this part
  std::optional<FinishReason> finished;
  Json search;  // null, or among what the answer was found; in its first part
};

struct ApiUsage {
  int64_t prompt = 0, completion = 0, reasoning = 0, injected = 0;
  int64_t cached = 0;  // of the prompts' tokens: their keys were there already
};

class ReplyWriter {
 public:
  // References outlive the writer.
  ReplyWriter(const ServedModel& model, const CompletionRequest& request, std::string id,
              int64_t created_s, int64_t version)
      : model_(model),
        request_(request),
        id_(std::move(id)),
        created_s_(created_s),
        version_(version) {}

  std::string Whole(const std::vector<ChoicePart>& choices, const ApiUsage& usage) const;
  std::string Event(const ChoicePart& part) const;  // with its frame
  std::string UsageEvent(const ApiUsage& usage) const;
  static std::string Framed(const std::string& json);  // one server-sent event
  static std::string LastEvent();                      // [DONE]

 private:
  OrderedJson Frame(bool chunk) const;
  OrderedJson Choice(const ChoicePart& part, bool chunk) const;
  OrderedJson ChatLogprobs(const ChoicePart& part) const;
  OrderedJson TextLogprobs(const ChoicePart& part) const;
  std::string Name(int32_t token) const;

  const ServedModel& model_;
  const CompletionRequest& request_;
  const std::string id_;
  const int64_t created_s_, version_;
};

}  // namespace tramontane
