#include "services/generator/http/http_server.h"

#include <microhttpd.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

#include "common/mailbox.h"
#include "common/status.h"
#include "model/weights/socket_io.h"

namespace tramontane {
namespace {

constexpr int kBacklog = 128;
constexpr int32_t kRefusers = 16;  // connections beyond the bound, to be told so
constexpr size_t kHandlerThreads = 2;
constexpr size_t kReadQueue = 64;  // GET requests that wait for their thread
// A body that is too large is read all the same, so that its sender comes to read the answer; but
// not more of it than this.
constexpr size_t kMostBodyToForget = size_t{64} << 20;
constexpr size_t kReadBlock = 16384;
constexpr std::chrono::milliseconds kWatchEvery{100};

using ExchangePtr = std::shared_ptr<HttpExchange>;

size_t DeclaredBody(MHD_Connection* connection) {
  const char* length =
      MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
  return length == nullptr ? 0 : std::strtoull(length, nullptr, 10);
}

MHD_Result Queue(MHD_Connection* connection, unsigned status, MHD_Response* response,
                 const std::string& content_type, int retry_after_s, bool last) {
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type.c_str());
  if (retry_after_s > 0) {
    MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER,
                            std::to_string(retry_after_s).c_str());
  }
  if (last) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  const MHD_Result queued = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);  // the connection keeps its own share
  return queued;
}

MHD_Result Send(MHD_Connection* connection, HttpReply reply) {
  MHD_Response* response =
      MHD_create_response_from_buffer(reply.body.size(), reply.body.data(), MHD_RESPMEM_MUST_COPY);
  return Queue(connection, static_cast<unsigned>(reply.status), response, reply.content_type,
               reply.retry_after_s, reply.last);
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(Options options, Handler handler, Refusal refusal)
      : options_(std::move(options)),
        handler_(std::move(handler)),
        refusal_(std::move(refusal)),
        arrived_(static_cast<size_t>(options_.max_connections)),
        arrived_reads_(kReadQueue) {}

  absl::Status Start() {
    ASSIGN_OR_RETURN(listener_, ListenTcp(options_.bind, kBacklog));
    ASSIGN_OR_RETURN(address_, LocalAddress(listener_.get()));
    daemon_ = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, 0, nullptr, nullptr,
        &Impl::OnRequest, this, MHD_OPTION_LISTEN_SOCKET, ::dup(listener_.get()),
        MHD_OPTION_CONNECTION_LIMIT, static_cast<unsigned>(options_.max_connections + kRefusers),
        MHD_OPTION_CONNECTION_TIMEOUT, static_cast<unsigned>(options_.idle_timeout_s),
        MHD_OPTION_NOTIFY_COMPLETED, &Impl::OnCompleted, this, MHD_OPTION_END);
    listener_.Reset();  // the library has a share of its own, and closes it
    if (daemon_ == nullptr) return absl::InternalError("libmicrohttpd did not start");
    for (std::thread& thread : handlers_) thread = std::thread([this] { HandleLoop(arrived_); });
    reader_ = std::thread([this] { HandleLoop(arrived_reads_); });
    watcher_ = std::thread([this] { WatchLoop(); });
    return absl::OkStatus();
  }

  ~Impl() {
    if (daemon_ == nullptr) return;
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    closing_changed_.notify_all();
    watcher_.join();
    arrived_.Close();
    arrived_reads_.Close();
    for (std::thread& thread : handlers_) thread.join();
    reader_.join();
    for (const ExchangePtr& exchange : Open()) exchange->Kill();
    MHD_stop_daemon(daemon_);  // tells the rest that they are closed
  }

  const std::string& address() const { return address_; }

 private:
  static MHD_Result OnRequest(void* self, MHD_Connection* connection, const char* url,
                              const char* method, const char*, const char* data, size_t* size,
                              void** state) {
    Impl& impl = *static_cast<Impl*>(self);
    if (*state == nullptr) return impl.Begin(connection, url, method, state);
    const ExchangePtr& exchange = *static_cast<ExchangePtr*>(*state);
    if (*size > 0) {
      exchange->TakeBody(data, *size, impl.options_.max_body_bytes);
      *size = 0;
      return exchange->body_bytes_ > kMostBodyToForget ? MHD_NO : MHD_YES;
    }
    return impl.Continue(connection, exchange);
  }

  static void OnCompleted(void* self, MHD_Connection*, void** state,
                          MHD_RequestTerminationCode how) {
    if (*state == nullptr) return;
    const std::unique_ptr<ExchangePtr> exchange(static_cast<ExchangePtr*>(*state));
    *state = nullptr;
    static_cast<Impl*>(self)->Forget(*exchange);
    (*exchange)->Closed(how == MHD_REQUEST_TERMINATED_COMPLETED_OK,
                        how == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED);
  }

  static ssize_t OnRead(void* exchange, uint64_t, char* buffer, size_t most) {
    return static_cast<HttpExchange*>(exchange)->Read(buffer, most);
  }

  MHD_Result Begin(MHD_Connection* connection, const char* url, const char* method, void** state) {
    if (DeclaredBody(connection) > kMostBodyToForget) return Refuse(connection, TooLarge());
    auto exchange = std::make_shared<HttpExchange>(HttpRequest{method, url, ""});
    {
      std::lock_guard lock(mutex_);
      open_.insert(exchange);
      if (closing_) exchange->Kill();
    }
    *state = new ExchangePtr(std::move(exchange));  // OnCompleted deletes it
    return MHD_YES;
  }

  // The whole request is here, or its answer is, or somebody woke it for nothing.
  MHD_Result Continue(MHD_Connection* connection, const ExchangePtr& exchange) {
    if (exchange->body_bytes_ > options_.max_body_bytes) return Refuse(connection, TooLarge());
    if (!exchange->dispatched_) {
      if (Connections() > options_.max_connections) {
        return Refuse(connection, absl::UnavailableError(
                                      "too many connections: " + std::to_string(Connections()) +
                                      " of " + std::to_string(options_.max_connections)));
      }
      exchange->dispatched_ = true;
      exchange->Attach(connection);
      ExchangePtr handed = exchange;
      const bool reads = exchange->request().method == MHD_HTTP_METHOD_GET;
      if (!(reads ? arrived_reads_ : arrived_).TryPush(std::move(handed))) {
        return Refuse(connection, absl::UnavailableError("too many requests have just arrived"));
      }
    }
    switch (exchange->Advance()) {
      case HttpExchange::Next::kParked:
        return MHD_YES;
      case HttpExchange::Next::kClose:
        return MHD_NO;
      case HttpExchange::Next::kAnswer:
        break;
    }
    if (exchange->render_) return Send(connection, exchange->render_());
    return Queue(connection, MHD_HTTP_OK,
                 MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, kReadBlock, &Impl::OnRead,
                                                   exchange.get(), nullptr),
                 exchange->content_type_, 0, false);
  }

  absl::Status TooLarge() const {
    return absl::OutOfRangeError("the body has more than " +
                                 std::to_string(options_.max_body_bytes) + " bytes");
  }

  MHD_Result Refuse(MHD_Connection* connection, const absl::Status& why) {
    HttpReply reply = refusal_(why);
    reply.last = true;
    return Send(connection, std::move(reply));
  }

  int32_t Connections() const {
    const MHD_DaemonInfo* info = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info == nullptr ? 0 : static_cast<int32_t>(info->num_connections);
  }

  void HandleLoop(Mailbox<ExchangePtr>& arrived) {
    while (true) {
      std::optional<ExchangePtr> exchange = arrived.Pop(std::chrono::seconds(1));
      if (exchange.has_value()) {
        handler_(*std::move(exchange));
      } else if (arrived.closed()) {
        return;
      }
    }
  }

  void WatchLoop() {
    std::unique_lock lock(mutex_);
    while (!closing_changed_.wait_for(lock, kWatchEvery, [this] { return closing_; })) {
      lock.unlock();
      const auto now = std::chrono::steady_clock::now();
      for (const ExchangePtr& exchange : Open()) exchange->Watch(now);
      lock.lock();
    }
  }

  std::vector<ExchangePtr> Open() {
    std::lock_guard lock(mutex_);
    return {open_.begin(), open_.end()};
  }
  void Forget(const ExchangePtr& exchange) {
    std::lock_guard lock(mutex_);
    open_.erase(exchange);
  }

  const Options options_;
  const Handler handler_;
  const Refusal refusal_;
  UniqueFd listener_;
  std::string address_;
  MHD_Daemon* daemon_ = nullptr;
  Mailbox<ExchangePtr> arrived_, arrived_reads_;
  std::mutex mutex_;
  std::condition_variable closing_changed_;
  std::unordered_set<ExchangePtr> open_;  // guarded by mutex_
  bool closing_ = false;                  // guarded by mutex_
  std::array<std::thread, kHandlerThreads> handlers_;
  std::thread reader_;  // of GET requests, which never wait for a large body's tokens
  std::thread watcher_;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(Options options, Handler handler,
                                                              Refusal refusal) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(handler), std::move(refusal));
  RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;
const std::string& HttpServer::address() const { return impl_->address(); }

}  // namespace tramontane
