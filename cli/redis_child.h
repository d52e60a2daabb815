// The run's own redis-server: append-only, never evicting, reachable by a unix socket alone.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/config.h"

namespace tramontane {

struct RedisPlan {
  std::string url;                // unix://…
  std::string data_dir;           // holds the append-only files
  std::vector<std::string> argv;
};

// The socket lies in the run directory, or in a private folder under /tmp where that path would
// be too long for a socket address.
absl::StatusOr<RedisPlan> PlanRedis(const std::string& run_dir, const RedisSection& config);

// Waits until the server at `url` answers PING. Unavailable names the URL and the last error.
absl::Status WaitForRedis(const std::string& url, double timeout_s);

}  // namespace tramontane
