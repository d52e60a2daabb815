#include "services/generator/http/endpoint.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "common/random_hex.h"
#include "common/status.h"
#include "services/generator/http/api_error.h"
#include "services/generator/http/vllm_aliases.h"

namespace tramontane {
namespace {

constexpr char kModelsPath[] = "/v1/models";
constexpr char kSessionsPath[] = "/v1/sessions/";

}  // namespace

class OpenAiEndpoint::Impl {
 public:
  Impl(const EndpointOptions& options, ServedModel model, EngineHooks engine, SearchDesk searches,
       SessionStore* sessions, MetricsRegistry& registry)
      : vllm_aliases_(options.vllm_metric_aliases),
        context_(std::make_shared<CallContext>(std::move(model), std::move(engine),
                                               std::move(searches), registry)),
        sessions_(sessions),
        registry_(registry),
        prefix_(RandomHex(16)) {}

  absl::Status Start(const HttpServer::Options& options) {
    ASSIGN_OR_RETURN(
        server_, HttpServer::Start(
                     options, [this](std::shared_ptr<HttpExchange> e) { Handle(std::move(e)); },
                     [this](const absl::Status& why) { return Refuse("refused", why); }));
    return absl::OkStatus();
  }

  const std::string& address() const { return server_->address(); }

  void Drain(double deadline_s) {
    draining_ = true;
    const auto deadline = std::chrono::steady_clock::now() +
                          std::chrono::milliseconds(static_cast<int64_t>(deadline_s * 1e3));
    std::unique_lock lock(open_->mutex);
    open_->none.wait_until(lock, deadline, [this] { return open_->calls == 0; });
  }

 private:
  // Calls under way; outlives this, as the last of them may.
  struct OpenCalls {
    std::mutex mutex;
    std::condition_variable none;
    int64_t calls = 0;  // guarded by mutex
  };

  void Handle(std::shared_ptr<HttpExchange> exchange) {
    const HttpRequest& request = exchange->request();
    const bool get = request.method == "GET", post = request.method == "POST";
    const std::string& path = request.path;
    if (path == "/health") return Get(exchange, get, Health());
    if (path == "/metrics") return Get(exchange, get, Metrics());
    if (path.starts_with(kSessionsPath)) return CloseSession(exchange, path);
    if (path.starts_with(kModelsPath)) return Get(exchange, get, Models(path));
    if (path != "/v1/completions" && path != "/v1/chat/completions") {
      return exchange->Reply(
          Refuse("other", absl::NotFoundError("there is nothing at " + path)));
    }
    if (!post) return WrongMethod(exchange, "POST");
    Complete(std::move(exchange), path == "/v1/chat/completions");
  }

  void Complete(std::shared_ptr<HttpExchange> exchange, bool chat) {
    const std::string& body = exchange->request().body;
    absl::StatusOr<CompletionRequest> request =
        draining_ ? Stopping()
        : chat    ? ReadChat(body, context_->model)
                  : ReadCompletion(body, context_->model);
    absl::Status status = request.status();
    if (status.ok() && !request->session.empty()) {
      status =
          sessions_ == nullptr
              ? WithParam(absl::FailedPreconditionError("there are no sessions here"), "session")
              : TakeSession(*sessions_, context_->model, *request);
    }
    if (!status.ok()) return exchange->Reply(Refuse(exchange->request().path, status));
    const std::string id =
        (chat ? "chatcmpl-" : "cmpl-") + prefix_ + "-" + std::to_string(++calls_);
    std::make_shared<CompletionCall>(std::move(exchange), *std::move(request), id,
                                     context_)
        ->Start(OpenCall());
  }

  void CloseSession(const std::shared_ptr<HttpExchange>& exchange, const std::string& path) {
    if (exchange->request().method != "DELETE") return WrongMethod(exchange, "DELETE");
    const std::string id = path.substr(sizeof kSessionsPath - 1);
    const absl::Status closed = sessions_ == nullptr
                                    ? absl::NotFoundError("there are no sessions here")
                                    : sessions_->Close(id);
    if (!closed.ok()) return exchange->Reply(Refuse("other", closed));
    context_->metrics.Answered("other", 200);
    exchange->Reply({.body = OrderedJson{{"id", id}, {"deleted", true}}.dump()});
  }

  // Counts as open for as long as anybody holds it.
  std::shared_ptr<void> OpenCall() {
    std::lock_guard lock(open_->mutex);
    ++open_->calls;
    return {nullptr, [open = open_](void*) {
              std::lock_guard lock(open->mutex);
              if (--open->calls == 0) open->none.notify_all();
            }};
  }

  HttpReply Refuse(const std::string& route, const absl::Status& why) {
    HttpReply reply = ErrorReply(why);
    context_->metrics.Answered(route, reply.status);
    return reply;
  }

  void Get(const std::shared_ptr<HttpExchange>& exchange, bool get, HttpReply reply) {
    if (!get) return WrongMethod(exchange, "GET");
    exchange->Reply(std::move(reply));
  }

  void WrongMethod(const std::shared_ptr<HttpExchange>& exchange, const std::string& right) {
    HttpReply reply = Refuse("other", absl::InvalidArgumentError(exchange->request().path +
                                                                 " takes " + right + " alone"));
    reply.status = 405;
    exchange->Reply(std::move(reply));
  }

  static absl::Status Stopping() { return absl::UnavailableError("the server is stopping"); }

  HttpReply Health() const {
    const EngineStats stats = context_->engine.stats();
    if (draining_) return ErrorReply(Stopping());
    if (!stats.healthy) return ErrorReply(absl::UnavailableError(stats.unhealthy_reason));
    return {.body = OrderedJson{{"status", "ok"}, {"weight_version", stats.version}}.dump()};
  }

  HttpReply Metrics() const {
    std::string page = registry_.Render();
    if (vllm_aliases_) page += VllmAliases(page, context_->model.name);
    return {.body = std::move(page), .content_type = "text/plain; version=0.0.4; charset=utf-8"};
  }

  HttpReply Models(const std::string& path) {
    const OrderedJson model = {{"id", context_->model.name},
                               {"object", "model"},
                               {"created", 0},
                               {"owned_by", "tramontane"},
                               {"max_model_len", context_->model.context_tokens}};
    const std::string name = path.substr(sizeof kModelsPath - 1);
    if (name.empty()) return {.body = OrderedJson{{"object", "list"}, {"data", {model}}}.dump()};
    if (name == "/" + context_->model.name) return {.body = model.dump()};
    return Refuse("other", absl::NotFoundError("there is nothing at " + path));
  }

  const bool vllm_aliases_;
  const std::shared_ptr<CallContext> context_;
  SessionStore* const sessions_;
  MetricsRegistry& registry_;
  const std::string prefix_;  // ids of two servers, or of two lives of one, differ
  std::atomic<uint64_t> calls_ = 0;
  std::atomic<bool> draining_ = false;
  const std::shared_ptr<OpenCalls> open_ = std::make_shared<OpenCalls>();
  std::unique_ptr<HttpServer> server_;  // last: its threads use the rest
};

absl::StatusOr<std::unique_ptr<OpenAiEndpoint>> OpenAiEndpoint::Start(
    const EndpointOptions& options, ServedModel model, EngineHooks engine, SearchDesk searches,
    SessionStore* sessions, MetricsRegistry& metrics) {
  auto impl = std::make_unique<Impl>(options, std::move(model), std::move(engine),
                                     std::move(searches), sessions, metrics);
  RETURN_IF_ERROR(impl->Start(options.server));
  return std::unique_ptr<OpenAiEndpoint>(new OpenAiEndpoint(std::move(impl)));
}

OpenAiEndpoint::OpenAiEndpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
OpenAiEndpoint::~OpenAiEndpoint() = default;
const std::string& OpenAiEndpoint::address() const { return impl_->address(); }
void OpenAiEndpoint::Drain(double deadline_s) { impl_->Drain(deadline_s); }

}  // namespace tramontane
