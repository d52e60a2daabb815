#include "services/generator/http/completion_call.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "common/clock.h"
#include "common/status.h"
#include "services/generator/http/api_error.h"

namespace tramontane {
namespace {

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// A whole response as if it had been streamed: runs of sampled and of other tokens.
std::vector<TokenChunk> ChunksOf(const Rollout& rollout) {
  std::vector<uint8_t> injected(rollout.tokens.size(), 0);
  for (const TokenSpan& span : rollout.injected)
    std::fill_n(injected.begin() + span.begin, span.count, 1);
  std::vector<TokenChunk> chunks(1);
  chunks[0].text = rollout.text;
  for (size_t i = 0; i < injected.size(); ++i) {
    if (i > 0 && injected[i] != injected[i - 1]) chunks.emplace_back();
    chunks.back().injected = injected[i] != 0;
    chunks.back().tokens.push_back(rollout.tokens[i]);
    chunks.back().logprobs.push_back(rollout.logprobs[i]);
  }
  return chunks;
}

size_t Characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

CompletionCall::CompletionCall(std::shared_ptr<HttpExchange> exchange, CompletionRequest request,
                               std::string id, std::shared_ptr<CallContext> context)
    : context_(std::move(context)),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      id_(std::move(id)),
      engine_(context_->engine),
      metrics_(context_->metrics),
      writer_(context_->model, request_, id_, UnixSeconds(), engine_.stats().version),
      born_(std::chrono::steady_clock::now()),
      deadline_(born_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                            std::chrono::duration<double>(request_.timeout_s))),
      unfinished_(request_.prompts.size() * static_cast<size_t>(request_.n)) {
  metrics_.Opened();
  for (size_t i = 0; i < unfinished_; ++i) {
    const ServedModel& model = context_->model;
    Choice choice{{}, {model.think_open, model.think_close, request_.reasoning_open}};
    choice.unsent.index = static_cast<int32_t>(i);
    choice.unsent.first = true;
    choice.unsent.prompt = &request_.prompts[i / static_cast<size_t>(request_.n)];
    choices_.push_back(std::move(choice));
  }
  for (const ApiPrompt& prompt : request_.prompts) {
    usage_.prompt += static_cast<int64_t>(prompt.tokens.size());
  }
}

CompletionCall::~CompletionCall() { metrics_.Closed(SecondsSince(born_)); }

const char* CompletionCall::Route() const {
  return request_.chat ? "/v1/chat/completions" : "/v1/completions";
}

std::string CompletionCall::EngineId(size_t prompt) const {
  return id_ + "-" + std::to_string(prompt);
}

void CompletionCall::Start(std::shared_ptr<void> open) {
  exchange_->OnGone(deadline_, [self = shared_from_this(), open = std::move(open)](Gone why) {
    self->OnGone(why);
  });
  const absl::Status status = Submit();
  bool failed;
  {
    std::lock_guard lock(mutex_);
    failed = !failed_.ok();
  }
  if (failed) CancelAll();  // whatever came in while it failed
  if (!status.ok()) {
    if (request_.turn != nullptr) request_.turn->GiveUp();
    Fail(WithParamOfMessage(status, request_.chat));
    return;
  }
  if (!request_.stream) return;  // the last sample's end answers
  {
    std::lock_guard lock(mutex_);
    if (!failed_.ok()) return;
    answered_ = true;
  }
  metrics_.Answered(Route(), 200);
  exchange_->Stream("text/event-stream; charset=utf-8",
                    [self = shared_from_this()](std::string& out) { return self->Pull(out); });
}

absl::Status CompletionCall::Submit() {
  for (size_t p = 0; p < request_.prompts.size(); ++p) {
    SampleRequest sample;
    sample.id = EngineId(p);
    sample.prompt_tokens = request_.prompts[p].tokens;
    sample.sampling = request_.sampling;
    sample.n = request_.n;
    sample.rules = {.logit_bias = request_.logit_bias,
                    .grammar = request_.grammar,
                    .grammar_after_token = request_.grammar_after_token};
    sample.top_logprobs = request_.top_logprobs.value_or(0);
    sample.answer_opening = request_.answer_opening;
    sample.deadline = deadline_;
    RETURN_IF_ERROR(request_.search ? StartSearch(p, std::move(sample))
                                    : SubmitPrompt(p, std::move(sample)));
  }
  return absl::OkStatus();
}

absl::Status CompletionCall::SubmitPrompt(size_t prompt, SampleRequest sample) {
  if (request_.echo && request_.top_logprobs.has_value()) {
    sample.on_prompt = [self = shared_from_this(), prompt](PromptLogprobs logprobs) {
      self->OnPrompt(prompt, std::move(logprobs));
    };
  }
  sample.on_chunk = [self = shared_from_this(), prompt](TokenChunk chunk) {
    self->OnChunk(prompt, std::move(chunk));
  };
  sample.on_finished = [self = shared_from_this(), prompt](const Rollout& rollout) {
    self->OnFinished(prompt, rollout);
  };
  return engine_.submit(std::move(sample));
}

absl::Status CompletionCall::StartSearch(size_t prompt, SampleRequest sample) {
  if (!context_->searches.start)
    return WithParam(absl::FailedPreconditionError("there are no searches here"), "search");
  SearchOrder order;
  order.ask = *request_.search;
  order.row.row_id = sample.id;
  order.row.prompt = request_.prompts[prompt].text;
  order.row.prompt_tokens = sample.prompt_tokens;
  order.row.messages = request_.messages;
  if (!order.ask.answers.empty()) order.row.answer = order.ask.answers[prompt];
  order.sample = std::move(sample);
  order.done = [self = shared_from_this(), prompt](absl::StatusOr<SearchResult> found) {
    self->OnFound(prompt, std::move(found));
  };
  return context_->searches.start(std::move(order));
}

void CompletionCall::CancelAll() {
  const auto& cancel = request_.search ? context_->searches.cancel : engine_.cancel;
  for (size_t p = 0; p < request_.prompts.size() && cancel; ++p) cancel(EngineId(p));
}

void CompletionCall::OnPrompt(size_t prompt, PromptLogprobs logprobs) {
  std::lock_guard lock(mutex_);
  const auto n = static_cast<size_t>(request_.n);
  for (size_t i = 0; i < n; ++i) choices_[prompt * n + i].unsent.prompt_logprobs = logprobs;
}

// Holds mutex_.
void CompletionCall::Count(Choice& choice, size_t tokens) {
  if (tokens == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (choice.last_token == Time{}) {
    metrics_.FirstToken(std::chrono::duration<double>(now - born_).count());
  } else {
    metrics_.NextToken(std::chrono::duration<double>(now - choice.last_token).count());
  }
  choice.last_token = now;
}

// Holds mutex_.
void CompletionCall::TakeText(Choice& choice, ReasoningSplitter::Parts parts) {
  choice.unsent.reasoning += parts.reasoning;
  choice.unsent.text += parts.content;
  choice.news |= !parts.reasoning.empty() || !parts.content.empty();
}

void CompletionCall::OnChunk(size_t prompt, TokenChunk chunk) {
  {
    std::lock_guard lock(mutex_);
    Choice& choice = choices_[prompt * static_cast<size_t>(request_.n) +
                              static_cast<size_t>(chunk.sample_index)];
    Count(choice, chunk.injected ? 0 : chunk.tokens.size());
    if (!failed_.ok() || !request_.generate) return;
    if (request_.split_reasoning) {
      TakeText(choice, choice.splitter.Push(chunk.text));
    } else {
      TakeText(choice, {"", std::move(chunk.text)});
    }
    const bool wants_tokens = request_.return_token_ids || request_.top_logprobs.has_value();
    if (wants_tokens && !chunk.tokens.empty()) {
      ChoicePart& part = choice.unsent;
      part.tokens.insert(part.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
      part.logprobs.insert(part.logprobs.end(), chunk.logprobs.begin(), chunk.logprobs.end());
      part.injected.resize(part.tokens.size(), chunk.injected ? 1 : 0);
      chunk.alternatives.resize(chunk.tokens.size());
      std::move(chunk.alternatives.begin(), chunk.alternatives.end(),
                std::back_inserter(part.alternatives));
      choice.news = true;
    }
    if (!choice.news || !answered_) return;
  }
  exchange_->Wake();
}

void CompletionCall::OnFinished(size_t prompt, const Rollout& rollout) {
  const FinishReason reason = rollout.finish_reason;
  if (reason == FinishReason::kTimeout) Late();
  if (reason == FinishReason::kAborted || reason == FinishReason::kError)
    Fail(WhyLost(engine_, reason));
  bool whole = false;
  {
    std::lock_guard lock(mutex_);
    --unfinished_;
    if (!failed_.ok()) {
      if (request_.turn != nullptr) request_.turn->GiveUp();
      return;
    }
    if (request_.turn != nullptr) request_.turn->Commit(request_.prompts[0].tokens, rollout.tokens);
    Choice& choice = choices_[prompt * static_cast<size_t>(request_.n) +
                              static_cast<size_t>(rollout.sample_index)];
    if (request_.split_reasoning) TakeText(choice, choice.splitter.Finish());
    choice.unsent.finished = reason;
    choice.news = true;
    if (request_.generate) {
      choice.unsent.spans = rollout.spans;
      usage_.completion += static_cast<int64_t>(rollout.tokens.size());
      // Of a prompt's samples all but the first find what the first has computed.
      if (rollout.sample_index == 0 && !request_.search)
        usage_.cached += rollout.cached_prompt_tokens;
      usage_.reasoning += rollout.usage.thinking;
      usage_.injected += rollout.usage.injected;
    } else {
      choice.unsent.finished = FinishReason::kLength;
    }
    whole = !request_.stream && unfinished_ == 0 && !std::exchange(answered_, true);
    if (request_.stream && !answered_) return;
  }
  if (whole) {
    metrics_.Answered(Route(), 200);
    exchange_->ReplyWith([self = shared_from_this()] { return self->Whole(); });
  } else {
    exchange_->Wake();
  }
}

void CompletionCall::OnFound(size_t prompt, absl::StatusOr<SearchResult> found) {
  if (!found.ok()) {
    if (absl::IsDeadlineExceeded(found.status())) Late();
    Fail(WithParamOfMessage(found.status(), request_.chat));
    std::lock_guard lock(mutex_);
    --unfinished_;
    return;
  }
  Rollout& best = found->best.rollout;
  best.sample_index = 0;
  {
    std::lock_guard lock(mutex_);
    choices_[prompt].unsent.search = SearchJson(request_.search->params, *found);
    // Tokens of other paths, and those that thinking control took back, were sampled as well.
    usage_.completion += found->sampled_tokens - static_cast<int64_t>(best.tokens.size()) +
                         CountTokens(best.injected);
  }
  for (TokenChunk& chunk : ChunksOf(best)) OnChunk(prompt, std::move(chunk));
  OnFinished(prompt, best);
}

bool CompletionCall::Fail(const absl::Status& status) {
  bool answered;
  {
    std::lock_guard lock(mutex_);
    if (!failed_.ok()) return false;
    if (answered_ && unfinished_ == 0) return false;  // all is there already
    failed_ = status;
    answered = std::exchange(answered_, true);
  }
  CancelAll();
  if (answered) {
    exchange_->Wake();
  } else {
    HttpReply reply = ErrorReply(status);
    metrics_.Answered(Route(), reply.status);
    exchange_->Reply(std::move(reply));
  }
  return true;
}

// The engine and the watcher of connections both look at the clock; whoever comes first is counted.
void CompletionCall::Late() {
  if (Fail(absl::DeadlineExceededError("the request did not finish in the time it had")))
    metrics_.Left(Gone::kDeadline);
}

void CompletionCall::OnGone(Gone why) {
  if (why == Gone::kDeadline) return Late();
  metrics_.Left(why);
  Fail(why == Gone::kSlowReader ? absl::AbortedError("the client did not read")
       : why == Gone::kShutdown ? absl::UnavailableError("the server is stopping")
                                : absl::CancelledError("the client went away"));
}

Pulled CompletionCall::Pull(std::string& out) {
  std::vector<ChoicePart> parts;
  std::optional<ApiUsage> usage;
  absl::Status failed;
  bool end;
  {
    std::lock_guard lock(mutex_);
    for (Choice& choice : choices_) {
      if (!std::exchange(choice.news, false)) continue;
      ChoicePart next;
      next.index = choice.unsent.index;
      next.text_begin = choice.unsent.text_begin + Characters(choice.unsent.text);
      parts.push_back(std::exchange(choice.unsent, std::move(next)));
    }
    if (!failed_.ok()) failed = failed_;
    end = unfinished_ == 0 || !failed_.ok();
    if (end && request_.include_usage) usage = usage_;
  }
  for (const ChoicePart& part : parts) out += writer_.Event(part);
  if (!end) return Pulled::kLater;
  if (!failed.ok()) {
    out += ReplyWriter::Framed(ErrorBody(failed));
    return Pulled::kEnd;
  }
  if (usage.has_value()) out += writer_.UsageEvent(*usage);
  out += ReplyWriter::LastEvent();
  return Pulled::kEnd;
}

HttpReply CompletionCall::Whole() {
  std::lock_guard lock(mutex_);
  std::vector<ChoicePart> parts;
  for (Choice& choice : choices_) parts.push_back(std::move(choice.unsent));
  return {.body = writer_.Whole(parts, usage_)};
}

}  // namespace tramontane
