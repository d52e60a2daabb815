#include "services/generator/http/reply_writer.h"

#include <string_view>

namespace tramontane {
namespace {

std::string Dump(const OrderedJson& json) {
  // A character cut in half by max_tokens is replaced rather than thrown at the caller.
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

const char* FinishName(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

OrderedJson Usage(const ApiUsage& usage) {
  return {{"prompt_tokens", usage.prompt},
          {"completion_tokens", usage.completion},
          {"total_tokens", usage.prompt + usage.completion},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached}}},
          {"completion_tokens_details",
           {{"reasoning_tokens", usage.reasoning}, {"injected_tokens", usage.injected}}}};
}

size_t Characters(std::string_view text) {
  size_t characters = 0;
  for (const char c : text) characters += (c & 0xC0) != 0x80;
  return characters;
}

// Runs of tokens that nobody sampled, as [begin, count] within the part.
OrderedJson InjectedRuns(const std::vector<uint8_t>& injected) {
  OrderedJson runs = OrderedJson::array();
  for (size_t i = 0; i < injected.size(); ++i) {
    if (injected[i] == 0) continue;
    const size_t begin = i;
    while (i + 1 < injected.size() && injected[i + 1] != 0) ++i;
    runs.push_back({begin, i + 1 - begin});
  }
  return runs;
}

}  // namespace

std::string ReplyWriter::Name(int32_t token) const {
  if (request_.tokens_as_ids) return "token_id:" + std::to_string(token);
  return model_.tokenizer->Decode({token}, false).value_or("");
}

OrderedJson ReplyWriter::Frame(bool chunk) const {
  const char* object = !request_.chat ? "text_completion"
                       : chunk        ? "chat.completion.chunk"
                                      : "chat.completion";
  OrderedJson frame = {{"id", id_},
                       {"object", object},
                       {"created", created_s_},
                       {"model", model_.name},
                       {"system_fingerprint", "weights-" + std::to_string(version_)}};
  if (request_.turn != nullptr) frame["session"] = request_.turn->id();
  if (request_.turn != nullptr && request_.chat)
    frame["session_kept_tokens"] = request_.session_kept_tokens;
  frame["choices"] = OrderedJson::array();
  return frame;
}

OrderedJson ReplyWriter::ChatLogprobs(const ChoicePart& part) const {
  const auto entry = [this](int32_t token, const OrderedJson& logprob) {
    const std::string name = Name(token);
    OrderedJson bytes = OrderedJson::array();
    for (const char c : name) bytes.push_back(static_cast<uint8_t>(c));
    return OrderedJson{{"token", name}, {"logprob", logprob}, {"bytes", std::move(bytes)}};
  };
  OrderedJson content = OrderedJson::array();
  for (size_t i = 0; i < part.tokens.size(); ++i) {
    const bool injected = part.injected[i] != 0;
    OrderedJson one =
        entry(part.tokens[i], injected ? OrderedJson() : OrderedJson(part.logprobs[i]));
    if (injected) one["injected"] = true;
    one["top_logprobs"] = OrderedJson::array();
    for (const TokenLogprob& other : part.alternatives[i]) {
      one["top_logprobs"].push_back(entry(other.token, other.logprob));
    }
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}};
}

// The older form: parallel lists, prompt included where it is echoed.
OrderedJson ReplyWriter::TextLogprobs(const ChoicePart& part) const {
  OrderedJson names = OrderedJson::array(), logprobs = OrderedJson::array();
  OrderedJson tops = OrderedJson::array(), offsets = OrderedJson::array();
  size_t offset = part.text_begin;
  const auto add = [&](int32_t token, const float* logprob,
                       const std::vector<TokenLogprob>* alternatives) {
    const std::string name = Name(token);
    names.push_back(name);
    logprobs.push_back(logprob == nullptr ? OrderedJson() : OrderedJson(*logprob));
    OrderedJson top = OrderedJson::object();
    if (logprob != nullptr) {
      for (const TokenLogprob& other : *alternatives) {
        const std::string key = Name(other.token);  // ids that share a text: the likeliest counts
        if (!top.contains(key)) top[key] = other.logprob;
      }
      if (!top.contains(name)) top[name] = *logprob;
    }
    tops.push_back(logprob == nullptr ? OrderedJson() : std::move(top));
    offsets.push_back(offset);
    offset += Characters(name);
  };
  if (part.prompt != nullptr && request_.echo) {
    const std::vector<int32_t>& prompt = part.prompt->tokens;
    for (size_t i = 0; i < prompt.size(); ++i) {
      add(prompt[i], i == 0 ? nullptr : &part.prompt_logprobs.logprobs[i - 1],
          i == 0 ? nullptr : &part.prompt_logprobs.alternatives[i - 1]);
    }
  }
  for (size_t i = 0; i < part.tokens.size(); ++i) {
    add(part.tokens[i], part.injected[i] != 0 ? nullptr : &part.logprobs[i], &part.alternatives[i]);
  }
  return {{"tokens", std::move(names)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

OrderedJson ReplyWriter::Choice(const ChoicePart& part, bool chunk) const {
  OrderedJson choice = {{"index", part.index}};
  if (request_.chat) {
    OrderedJson message = OrderedJson::object();
    if (part.first) message["role"] = "assistant";
    if (!part.reasoning.empty()) message["reasoning_content"] = part.reasoning;
    if (!part.text.empty() || part.first) message["content"] = part.text;
    choice[chunk ? "delta" : "message"] = std::move(message);
  } else {
    const bool echoes = request_.echo && part.prompt != nullptr;
    choice["text"] = echoes ? part.prompt->text + part.text : part.text;
  }
  choice["logprobs"] = nullptr;
  if (request_.top_logprobs.has_value()) {
    choice["logprobs"] = request_.chat ? ChatLogprobs(part) : TextLogprobs(part);
  }
  choice["finish_reason"] =
      part.finished.has_value() ? OrderedJson(FinishName(*part.finished)) : OrderedJson();
  if (!part.search.is_null()) choice["search"] = part.search;
  if (request_.return_token_ids) {
    choice["token_ids"] = part.tokens;
    OrderedJson injected = InjectedRuns(part.injected);
    if (!injected.empty()) choice["injected"] = std::move(injected);
    if (part.prompt != nullptr) choice["prompt_token_ids"] = part.prompt->tokens;
    if (!part.spans.empty()) {
      OrderedJson& versions = choice["weight_versions"] = OrderedJson::array();
      for (const VersionSpan& span : part.spans) versions.push_back({span.version, span.count});
    }
  }
  return choice;
}

std::string ReplyWriter::Whole(const std::vector<ChoicePart>& choices,
                               const ApiUsage& usage) const {
  OrderedJson reply = Frame(false);
  for (const ChoicePart& part : choices) reply["choices"].push_back(Choice(part, false));
  reply["usage"] = Usage(usage);
  return Dump(reply);
}

std::string ReplyWriter::Event(const ChoicePart& part) const {
  OrderedJson event = Frame(true);
  event["choices"].push_back(Choice(part, true));
  if (request_.include_usage) event["usage"] = nullptr;
  return Framed(Dump(event));
}

std::string ReplyWriter::UsageEvent(const ApiUsage& usage) const {
  OrderedJson event = Frame(true);
  event["usage"] = Usage(usage);
  return Framed(Dump(event));
}

std::string ReplyWriter::Framed(const std::string& json) { return "data: " + json + "\n\n"; }
std::string ReplyWriter::LastEvent() { return "data: [DONE]\n\n"; }

}  // namespace tramontane
