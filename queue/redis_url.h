// redis://[user:password@]host[:port][/db] and unix:///path[?db=n][&password=p], taken apart.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

struct RedisUrl {
  std::string host;  // empty for a unix socket
  int port = 6379;
  std::string unix_path;
  std::string user, password;
  int database = 0;

  std::string Printable() const;  // without the password
};

// InvalidArgument says what is wrong, never with the password in it.
absl::StatusOr<RedisUrl> ParseRedisUrl(const std::string& url);

}  // namespace tramontane
