#include "services/generator/http/completion_request.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "common/status.h"
#include "services/generator/http/api_error.h"
#include "services/generator/http/chat_prompt.h"
#include "services/generator/http/field_reader.h"
#include "services/generator/http/output_format.h"

namespace tramontane {
namespace {

constexpr int32_t kMostPrompts = 4096;
constexpr int32_t kMostTopLogprobs = 20;
constexpr int32_t kCompletionTokens = 16;  // where nothing is said, as the API has it
constexpr double kMostBias = 100;
constexpr int64_t kNoLimit = int64_t{1} << 30;
// No tokenizer's token is longer. Text beyond that many bytes a token is not worth tokenising.
constexpr int64_t kMostBytesPerToken = 512;

uint64_t FreshSeed() {
  std::random_device entropy;
  return (uint64_t{entropy()} << 32) | entropy();
}

// What may be asked for and cannot change the answer, or only in one way.
void ReadPassive(FieldReader& fields) {
  fields.Ignore({"user", "store", "metadata", "service_tier", "safety_identifier",
                 "prompt_cache_key", "priority", "request_id"});
  fields.Only("frequency_penalty", 0);
  fields.Only("presence_penalty", 0);
  fields.Only("repetition_penalty", 1);
  fields.Only("length_penalty", 1);
  fields.Only("min_tokens", 0);
  fields.Only("use_beam_search", false);
  fields.Only("skip_special_tokens", false);
  fields.Only("spaces_between_special_tokens", true);
  fields.Only("include_stop_str_in_output", false);
}

void ReadBias(FieldReader& fields, const ServedModel& model, CompletionRequest& request) {
  const OrderedJson* bias = fields.Find("logit_bias");
  if (bias == nullptr) return;
  if (!bias->is_object()) return fields.Fail("logit_bias", "must map token ids to numbers");
  for (const auto& [key, value] : bias->items()) {
    const bool digits =
        !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || std::stol(key) >= model.vocab_size) {
      return fields.Fail("logit_bias", "holds \"" + key + "\", which is no token id");
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= kMostBias)) {
      return fields.Fail("logit_bias", "must hold numbers from -100 to 100");
    }
    request.logit_bias[static_cast<int32_t>(std::stol(key))] = value.get<float>();
  }
}

void ReadThinking(FieldReader& fields, bool chat, SamplingParams& sampling) {
  const OrderedJson* block = fields.Find("thinking");
  if (block == nullptr) return;
  absl::StatusOr<ThinkingParams> thinking = ThinkingFromJson(Json(*block));
  if (!thinking.ok()) return fields.Fail(WithParamOfMessage(thinking.status(), chat));
  sampling.thinking = *std::move(thinking);
}

// What a search cannot give: several answers, alternatives, a prompt's own log-probabilities.
absl::Status ReadSearch(const OrderedJson* block, CompletionRequest& request) {
  if (block == nullptr) return absl::OkStatus();
  absl::StatusOr<SearchAsk> ask = SearchAskFromJson(Json(*block), request.prompts.size());
  if (!ask.ok()) return WithParamOfMessage(ask.status(), request.chat);
  if (request.n != 1) return BadField("n", "must be 1 with search, which has search.n");
  if (request.top_logprobs.value_or(0) > 0)
    return BadField(request.chat ? "top_logprobs" : "logprobs", "must be 0 with search");
  if (request.echo) return BadField("echo", "cannot be had with search");
  request.search = *std::move(ask);
  return absl::OkStatus();
}

// A session goes on in one way.
absl::Status CheckSession(const CompletionRequest& request) {
  if (request.session.empty()) return absl::OkStatus();
  if (request.prompts.size() != 1) return BadField("prompt", "must be one, with session");
  if (request.n != 1) return BadField("n", "must be 1 with session");
  if (request.echo) return BadField("echo", "cannot be had with session");
  if (request.search) return BadField("search", "cannot be had with session");
  return absl::OkStatus();
}

std::vector<PromptMessage> MessagesOf(const OrderedJson& context) {
  std::vector<PromptMessage> messages;
  for (const OrderedJson& message : context.at("messages")) {
    const auto content = message.find("content");
    const bool text = content != message.end() && content->is_string();
    messages.push_back({message.at("role").get<std::string>(),
                        text ? content->get<std::string>() : std::string()});
  }
  return messages;
}

void ReadStreamOptions(FieldReader& fields, CompletionRequest& request) {
  fields.Read("stream", request.stream);
  const OrderedJson* options = fields.Find("stream_options");
  if (options == nullptr) return;
  if (!request.stream) return fields.Fail("stream_options", "needs stream");
  if (!options->is_object()) return fields.Fail("stream_options", "must be an object");
  FieldReader inner(*options, "stream_options.");
  inner.Read("include_usage", request.include_usage);
  inner.Ignore({"include_obfuscation", "continuous_usage_stats"});
  if (const absl::Status status = inner.Finish(); !status.ok()) {
    fields.Fail("stream_options", "is wrong: " + std::string(status.message()));
  }
}

// What both kinds have in common. `max_tokens` −1: not given.
void ReadSampling(FieldReader& fields, const ServedModel& model, CompletionRequest& request,
                  int64_t& max_tokens) {
  SamplingParams& sampling = request.sampling;
  fields.Read("temperature", sampling.temperature, 0, 100);
  fields.Read("top_p", sampling.top_p, 1e-9, 1);
  int32_t top_k = 0;
  fields.Read("top_k", top_k, -1, INT32_MAX);  // -1 is off as well
  sampling.top_k = std::max(top_k, 0);
  fields.Read("min_p", sampling.min_p, 0, 0.999999);
  int64_t seed = static_cast<int64_t>(FreshSeed());
  fields.Read("seed", seed, INT64_MIN, INT64_MAX);
  sampling.seed = static_cast<uint64_t>(seed);
  fields.ReadTexts("stop", sampling.stop);
  fields.Read("stop_token_ids", sampling.stop_token_ids);
  fields.Read("ignore_eos", sampling.ignore_eos);
  fields.Read("n", request.n, 1, model.max_samples);
  fields.Read("return_token_ids", request.return_token_ids);
  fields.Read("return_tokens_as_token_ids", request.tokens_as_ids);
  fields.Read("max_tokens", max_tokens, request.chat ? 1 : 0, kNoLimit);
  request.timeout_s = model.default_timeout_s;
  fields.Read("timeout_s", request.timeout_s, 1e-3, model.default_timeout_s);
  ReadStreamOptions(fields, request);
  ReadBias(fields, model, request);
  ReadThinking(fields, request.chat, sampling);
  ReadPassive(fields);
}

absl::Status CheckModel(FieldReader& fields, const ServedModel& model) {
  std::string name = model.name;
  fields.Read("model", name);
  if (name == model.name) return absl::OkStatus();
  return WithCode(WithParam(absl::NotFoundError("the model '" + name + "' is not served here; '" +
                                                model.name + "' is"),
                            "model"),
                  "model_not_found");
}

absl::Status TooLong(const std::string& param, const std::string& what, int64_t context) {
  return WithCode(WithParam(absl::InvalidArgumentError(what + "; this model's context has " +
                                                       std::to_string(context)),
                            param),
                  "context_length_exceeded");
}

// How much may be sampled, with what is left beside each prompt. Nothing is cut silently.
absl::Status SetMaxTokens(int64_t max_tokens, const std::string& param, const ServedModel& model,
                          CompletionRequest& request) {
  for (const ApiPrompt& prompt : request.prompts) {
    const auto size = static_cast<int64_t>(prompt.tokens.size());
    if (size >= model.context_tokens) {
      return TooLong(param, "the prompt has " + std::to_string(size) + " tokens",
                     model.context_tokens);
    }
    if (max_tokens > 0 && size + max_tokens > model.context_tokens) {
      return TooLong("max_tokens",
                     "the prompt has " + std::to_string(size) + " tokens and max_tokens is " +
                         std::to_string(max_tokens),
                     model.context_tokens);
    }
  }
  request.max_tokens = max_tokens;
  const int64_t limit = max_tokens < 0 ? model.context_tokens : std::max<int64_t>(max_tokens, 1);
  request.sampling.max_new_tokens = static_cast<int32_t>(std::min(limit, kNoLimit));
  request.generate = max_tokens != 0;
  return absl::OkStatus();
}

absl::StatusOr<ApiPrompt> Tokenised(std::string text, bool special_tokens, const std::string& param,
                                    const ServedModel& model) {
  if (static_cast<int64_t>(text.size()) > model.context_tokens * kMostBytesPerToken) {
    return TooLong(param, "the prompt has " + std::to_string(text.size()) + " bytes",
                   model.context_tokens);
  }
  ApiPrompt prompt;
  ASSIGN_OR_RETURN(prompt.tokens, model.tokenizer->Encode(text, special_tokens));
  prompt.text = std::move(text);
  return prompt;
}

absl::StatusOr<ApiPrompt> FromIds(const OrderedJson& ids, const ServedModel& model) {
  ApiPrompt prompt;
  RETURN_IF_ERROR(ReadTokenIds(ids, "prompt", prompt.tokens));
  if (static_cast<int64_t>(prompt.tokens.size()) < model.context_tokens) {
    ASSIGN_OR_RETURN(prompt.text, model.tokenizer->Decode(prompt.tokens, false));
  }
  return prompt;
}

// A text, a list of texts, a list of ids, or a list of lists of ids.
absl::Status ReadPrompts(const OrderedJson* value, bool special_tokens, const ServedModel& model,
                         CompletionRequest& request) {
  if (value == nullptr) return BadField("prompt", "is missing");
  const bool one =
      value->is_string() || (value->is_array() && !value->empty() && value->front().is_number());
  if (!one && !value->is_array()) return BadField("prompt", "must be a text or a list");
  if (!one && value->size() > static_cast<size_t>(kMostPrompts)) {
    return BadField("prompt", "holds more than " + std::to_string(kMostPrompts) + " prompts");
  }
  const OrderedJson alone = one ? OrderedJson::array({*value}) : OrderedJson();
  for (const OrderedJson& item : one ? alone : *value) {
    absl::StatusOr<ApiPrompt> prompt =
        item.is_string() ? Tokenised(item.get<std::string>(), special_tokens, "prompt", model)
                         : FromIds(item, model);
    RETURN_IF_ERROR(prompt.status());
    if (prompt->tokens.empty()) return BadField("prompt", "is empty");
    request.prompts.push_back(*std::move(prompt));
  }
  return request.prompts.empty() ? BadField("prompt", "is empty") : absl::OkStatus();
}

// More than the engine's queue holds would be told to come back for ever.
absl::Status CheckSamples(const CompletionRequest& request, const ServedModel& model) {
  if (static_cast<int64_t>(request.prompts.size()) * request.n <= model.max_samples)
    return absl::OkStatus();
  return BadField("n",
                  "times the number of prompts is more than " + std::to_string(model.max_samples));
}

// The prompt of a chat whose text begins with that of the session's tokens, in these and whatever
// follows. Null: it does not.
absl::StatusOr<std::optional<std::vector<int32_t>>> GoneOn(const std::vector<int32_t>& said,
                                                           const std::string& text,
                                                           const Tokenizer& tokenizer) {
  // Ids that only a padded embedding knows have no text, and no message tells them.
  const absl::StatusOr<std::string> before = tokenizer.Decode(said, false);
  if (!before.ok() || !text.starts_with(*before)) return std::nullopt;
  ASSIGN_OR_RETURN(const std::vector<int32_t> more,
                   tokenizer.Encode(text.substr(before->size()), /*add_special_tokens=*/false));
  std::vector<int32_t> tokens = said;
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

}  // namespace

absl::StatusOr<CompletionRequest> ReadCompletion(const std::string& body,
                                                 const ServedModel& model) {
  ASSIGN_OR_RETURN(const OrderedJson json, ParseBody(body));
  CompletionRequest request;
  FieldReader fields(json, "");
  RETURN_IF_ERROR(CheckModel(fields, model));
  int64_t max_tokens = kCompletionTokens;
  ReadSampling(fields, model, request, max_tokens);
  fields.Read("echo", request.echo);
  fields.Read("session", request.session);
  bool special_tokens = request.session.empty() || request.session == "new";
  fields.Read("add_special_tokens", special_tokens);
  int32_t logprobs = -1;
  fields.Read("logprobs", logprobs, 0, kMostTopLogprobs);
  if (logprobs >= 0) request.top_logprobs = logprobs;
  int32_t best_of = request.n;
  fields.Read("best_of", best_of, request.n, request.n);
  fields.Only("suffix", "");
  if (max_tokens == 0 && !request.echo) fields.Fail("max_tokens", "can be 0 only with echo");
  const OrderedJson* prompt = fields.Find("prompt");
  const OrderedJson* search = fields.Find("search");
  OutputFormat format = ReadOutputFormat(fields);
  RETURN_IF_ERROR(fields.Finish());
  RETURN_IF_ERROR(ReadPrompts(prompt, special_tokens, model, request));
  RETURN_IF_ERROR(ReadSearch(search, request));
  RETURN_IF_ERROR(CheckSession(request));
  RETURN_IF_ERROR(CheckSamples(request, model));
  RETURN_IF_ERROR(SetMaxTokens(max_tokens, "prompt", model, request));
  RETURN_IF_ERROR(SetGrammar(format, model, request));
  return request;
}

absl::StatusOr<CompletionRequest> ReadChat(const std::string& body, const ServedModel& model) {
  ASSIGN_OR_RETURN(const OrderedJson json, ParseBody(body));
  CompletionRequest request;
  request.chat = true;
  FieldReader fields(json, "");
  RETURN_IF_ERROR(CheckModel(fields, model));
  int64_t max_tokens = -1;
  ReadSampling(fields, model, request, max_tokens);
  fields.Read("max_completion_tokens", max_tokens, 1, kNoLimit);
  bool logprobs = false;
  fields.Read("logprobs", logprobs);
  int32_t top_logprobs = 0;
  fields.Read("top_logprobs", top_logprobs, 0, kMostTopLogprobs);
  if (top_logprobs > 0 && !logprobs) fields.Fail("top_logprobs", "needs logprobs");
  if (logprobs) request.top_logprobs = top_logprobs;
  fields.Read("session", request.session);
  ASSIGN_OR_RETURN(const OrderedJson context, ReadChatContext(fields));
  const OrderedJson* search = fields.Find("search");
  OutputFormat format = ReadOutputFormat(fields);
  std::optional<bool> split;
  if (fields.Find("separate_reasoning") != nullptr) {
    bool asked = false;
    fields.Read("separate_reasoning", asked);
    split = asked;
  }
  RETURN_IF_ERROR(fields.Finish());
  ASSIGN_OR_RETURN(std::string text, RenderChat(context, model.chat_template.get()));
  ASSIGN_OR_RETURN(ApiPrompt prompt, Tokenised(std::move(text), false, "messages", model));
  request.answer_opening = AnswerOpening(context, prompt.text, *model.chat_template);
  request.reasoning_open =
      EndsInsideTags(*request.answer_opening, model.think_open, model.think_close);
  request.split_reasoning =
      split.value_or(request.reasoning_open || model.tokenizer->TokenId(model.think_close) >= 0);
  request.prompts.push_back(std::move(prompt));
  request.messages = MessagesOf(context);
  RETURN_IF_ERROR(ReadSearch(search, request));
  RETURN_IF_ERROR(CheckSession(request));
  RETURN_IF_ERROR(SetMaxTokens(max_tokens, "messages", model, request));
  RETURN_IF_ERROR(SetGrammar(format, model, request));
  return request;
}

absl::Status TakeSession(SessionStore& sessions, const ServedModel& model,
                         CompletionRequest& request) {
  absl::StatusOr<std::shared_ptr<SessionTurn>> turn = SessionTurn::Take(sessions, request.session);
  if (!turn.ok()) {
    const absl::Status named = WithParam(turn.status(), "session");
    return absl::IsNotFound(named) ? WithCode(named, "session_not_found") : named;
  }
  std::vector<int32_t>& tokens = request.prompts[0].tokens;
  const std::vector<int32_t>& before = (*turn)->before();
  if (!request.chat) {
    tokens.insert(tokens.begin(), before.begin(), before.end());
  } else if (!before.empty()) {
    ASSIGN_OR_RETURN(std::optional<std::vector<int32_t>> whole,
                     GoneOn(before, request.prompts[0].text, *model.tokenizer));
    if (whole) {
      tokens = *std::move(whole);
      request.session_kept_tokens = static_cast<int64_t>(before.size());
    } else {
      (*turn)->ToldAnew();
    }
  }
  RETURN_IF_ERROR(SetMaxTokens(request.max_tokens, "session", model, request));
  request.turn = *std::move(turn);
  return absl::OkStatus();
}

}  // namespace tramontane
