// The OpenAI-compatible HTTP endpoint of a generator.
//
//   GET  /health /metrics /v1/models /v1/models/{name}
//   POST /v1/completions /v1/chat/completions
//   DELETE /v1/sessions/{id}
//
// Tool calls that a model writes stay in the content, as its template words them; they are not
// parsed. Everything else that an answer can hold is in docs/http.md.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "services/generator/http/completion_call.h"
#include "services/generator/http/completion_request.h"
#include "services/generator/http/http_server.h"

namespace tramontane {

struct EndpointOptions {
  HttpServer::Options server;
  bool vllm_metric_aliases = false;
};

class OpenAiEndpoint {
 public:
  // `metrics` outlives the endpoint, and so do `sessions` (null: none) and what the hooks reach.
  // Errors as HttpServer::Start.
  static absl::StatusOr<std::unique_ptr<OpenAiEndpoint>> Start(
      const EndpointOptions& options, ServedModel model, EngineHooks engine, SearchDesk searches,
      SessionStore* sessions, MetricsRegistry& metrics);
  // Ends the server; requests that are still open are cancelled.
  ~OpenAiEndpoint();

  const std::string& address() const;  // host:port
  // Answers 503 to new requests from now on, and waits for the others to finish.
  void Drain(double deadline_s);

 private:
  class Impl;
  explicit OpenAiEndpoint(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
