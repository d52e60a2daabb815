// One completion request on its way: what the engine has sampled for it and the client has not yet
// taken. Between them it only appends and takes out, under one lock, and never waits.
//
// A streamed choice's unsent tokens are merged, so that a slow reader costs no more than the text
// itself, and gets fewer, larger events. Whoever leaves, or lets the deadline pass, or does not
// read for too long, has its samples cancelled.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "generator/engine_hooks.h"
#include "generator/search/search_pool.h"
#include "services/generator/http/completion_request.h"
#include "services/generator/http/http_exchange.h"
#include "services/generator/http/http_metrics.h"
#include "services/generator/http/reasoning_splitter.h"
#include "services/generator/http/reply_writer.h"

namespace tramontane {

// What all calls of an endpoint share. Each call holds it: the engine may let go of a call's
// callbacks when the endpoint is gone already.
struct CallContext {
  CallContext(ServedModel served, EngineHooks hooks, SearchDesk desk, MetricsRegistry& registry)
      : model(std::move(served)),
        engine(std::move(hooks)),
        searches(std::move(desk)),
        metrics(registry) {}

  const ServedModel model;
  const EngineHooks engine;
  const SearchDesk searches;
  HttpMetrics metrics;
};

class CompletionCall : public std::enable_shared_from_this<CompletionCall> {
 public:
  // `id`: the reply's, and the begin of the engine's.
  CompletionCall(std::shared_ptr<HttpExchange> exchange, CompletionRequest request, std::string id,
                 std::shared_ptr<CallContext> context);
  ~CompletionCall();

  // Hands everything to the engine and answers, now or as it comes. Once. `open` is let go when the
  // exchange is over.
  void Start(std::shared_ptr<void> open);

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Choice {
    ChoicePart unsent;  // everything, where nothing is streamed
    ReasoningSplitter splitter;
    bool news = false, ended = false;
    Time last_token{};
  };

  absl::Status Submit();
  absl::Status SubmitPrompt(size_t prompt, SampleRequest sample);
  absl::Status StartSearch(size_t prompt, SampleRequest sample);
  const char* Route() const;
  std::string EngineId(size_t prompt) const;
  void CancelAll();
  // Engine thread.
  void OnPrompt(size_t prompt, PromptLogprobs logprobs);
  void OnChunk(size_t prompt, TokenChunk chunk);
  void OnFinished(size_t prompt, const Rollout& rollout);
  void OnFound(size_t prompt, absl::StatusOr<SearchResult> found);  // a search's thread
  void Count(Choice& choice, size_t tokens);
  void TakeText(Choice& choice, ReasoningSplitter::Parts parts);
  bool Fail(const absl::Status& status);  // false: it is over already
  void Late();
  void OnGone(Gone why);
  // Network thread.
  Pulled Pull(std::string& out);
  HttpReply Whole();

  const std::shared_ptr<CallContext> context_;
  const std::shared_ptr<HttpExchange> exchange_;
  const CompletionRequest request_;
  const std::string id_;
  const EngineHooks& engine_;
  HttpMetrics& metrics_;
  const ReplyWriter writer_;
  const Time born_, deadline_;

  std::mutex mutex_;
  // All guarded by mutex_.
  std::vector<Choice> choices_;  // prompt · n + sample
  size_t unfinished_;
  ApiUsage usage_;
  bool answered_ = false;  // a stream began, or a whole answer was given
  absl::Status failed_;
};

}  // namespace tramontane
