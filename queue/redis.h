// One Redis connection (hiredis). One thread. Reconnects by itself: a command on a broken
// connection is Unavailable, the next one dials again. TLS comes later.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

struct RedisReply {
  enum class Kind { kNil, kString, kInteger, kArray };
  Kind kind = Kind::kNil;
  std::string string;
  long long integer = 0;
  std::vector<RedisReply> array;
};

class RedisConnection {
 public:
  // redis://[user:password@]host:port/db or unix:///path?db=n. InvalidArgument for another form.
  // Dials at the first command.
  static absl::StatusOr<std::unique_ptr<RedisConnection>> Create(const std::string& url,
                                                                 double command_timeout_s);
  ~RedisConnection();

  // Binary-safe. `timeout_s` < 0: the connection's own (give more for blocking commands).
  // Errors: Unavailable (connection or server loading; the command may or may not have run),
  // ResourceExhausted (memory or disk of Redis), PermissionDenied, and for other error replies
  // NotFound (no such function), FailedPrecondition (LEASELOST, FORGOTTEN), Aborted (FENCED) or
  // Internal, with Redis's text.
  absl::StatusOr<RedisReply> Command(const std::vector<std::string>& argv, double timeout_s = -1);

 private:
  RedisConnection() = default;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
