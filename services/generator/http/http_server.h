// An HTTP/1.1 server for answers that take long, over libmicrohttpd: one network thread, a few
// threads that run the handler (parsing, tokenising), one of them for GET requests alone, so that a
// health check never waits for somebody's large prompt, and one that watches for deadlines and for
// clients that left.
//
// Everything is bounded: connections, the body, requests waiting for a handler, the time for which
// a client may leave an answer untaken. What is too much is refused with an answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/generator/http/http_exchange.h"

namespace tramontane {

class HttpServer {
 public:
  struct Options {
    std::string bind = "127.0.0.1:0";         // port 0 picks a free one
    int32_t max_connections = 256;            // beyond it: 503
    size_t max_body_bytes = size_t{8} << 20;  // beyond it: 413
    // No byte taken or sent by the client for so long, outside of our own thinking: it is dropped.
    int32_t idle_timeout_s = 30;
  };
  // On one of the handler threads; may block for a moment, never for another request.
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;
  // What a refusal of this server's own looks like.
  using Refusal = std::function<HttpReply(const absl::Status&)>;

  // Unavailable: the address is in use. InvalidArgument: it is none.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(Options options, Handler handler,
                                                           Refusal refusal);
  // Closes what is still open; its OnGone says kShutdown.
  ~HttpServer();

  const std::string& address() const;  // host:port

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
