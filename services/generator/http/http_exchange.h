// One HTTP request and its answer, which may come from any thread, later, and in pieces.
//
// Whoever handles the request answers once: Reply() with everything, or Stream() with a source that
// is asked for more only when the client has taken what came before. A slow reader therefore costs
// what its source keeps, and nobody else's time. When the client goes away, or is too slow, or the
// deadline passes, OnGone tells why.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

struct MHD_Connection;

namespace tramontane {

struct HttpRequest {
  std::string method, path, body;
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  int retry_after_s = 0;  // 0: no such header
  bool last = false;      // closes the connection
};

enum class Pulled { kMore, kLater, kEnd };  // kLater: until Wake()
enum class Gone { kClient, kSlowReader, kDeadline, kShutdown };

class HttpExchange {
 public:
  // Appends what there is. Runs on the network thread: must not block.
  using Source = std::function<Pulled(std::string& out)>;
  using Render = std::function<HttpReply()>;
  using GoneCallback = std::function<void(Gone why)>;

  explicit HttpExchange(HttpRequest request) : request_(std::move(request)) {}

  const HttpRequest& request() const { return request_; }  // from the handler on

  // All below: any thread. The first answer counts, later ones are dropped.
  void Reply(HttpReply reply);
  void ReplyWith(Render render);  // made on the network thread
  void Stream(std::string content_type, Source source);
  void Wake();  // a source that said kLater has something again
  // At most once, and never after the answer was sent whole. `callback` must not block; it may
  // answer (a deadline that passes before the answer leaves room for one). Set before answering.
  void OnGone(std::chrono::steady_clock::time_point deadline, GoneCallback callback);

 private:
  friend class HttpServer;

  enum class Next { kAnswer, kParked, kClose };
  // Network thread.
  void TakeBody(const char* data, size_t size, size_t most);
  void Attach(MHD_Connection* connection);
  Next Advance();
  ssize_t Read(char* buffer, size_t most);
  void Closed(bool sent, bool too_slow);
  // Watcher thread.
  void Watch(std::chrono::steady_clock::time_point now);
  void Kill();  // closes the connection without an answer, as soon as it can
  bool ClientLeft() const;
  void Answer(Render render, Source source, std::string content_type);
  void Resume();

  HttpRequest request_;
  size_t body_bytes_ = 0;    // received, kept or not; network thread
  bool dispatched_ = false;  // network thread
  // What the source gave and the client has not taken; network thread.
  std::string unsent_;
  size_t unsent_begin_ = 0;
  bool ended_ = false;

  mutable std::mutex mutex_;
  // All guarded by mutex_.
  MHD_Connection* connection_ = nullptr;  // while it is open
  bool answered_ = false, suspended_ = false, woken_ = false, killed_ = false;
  Render render_;
  Source source_;
  std::string content_type_;
  GoneCallback on_gone_;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::time_point::max();
};

}  // namespace tramontane
