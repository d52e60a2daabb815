#include "cli/redis_child.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "common/clock.h"
#include "common/files.h"
#include "common/hash.h"
#include "common/status.h"
#include "queue/redis.h"

namespace tramontane {
namespace {

constexpr size_t kLongestSocketPath = sizeof(sockaddr_un::sun_path) - 1;

absl::StatusOr<std::string> SocketPath(const std::string& data_dir) {
  const std::string inside = data_dir + "/redis.sock";
  if (inside.size() <= kLongestSocketPath) return inside;
  // Named after the run directory and the user, so that a resumed run finds the same place.
  const std::string folder = "/tmp/tramontane-" + std::to_string(::getuid()) + "-" +
                             Sha256Hex(data_dir).substr(0, 16);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return ErrnoStatus(errno, folder);
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0) return ErrnoStatus(errno, folder);
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::getuid()) {
    return absl::PermissionDeniedError(folder + ": is not a folder of this user");
  }
  return folder + "/redis.sock";
}

}  // namespace

absl::StatusOr<RedisPlan> PlanRedis(const std::string& run_dir, const RedisSection& config) {
  RedisPlan plan;
  plan.data_dir = run_dir + "/redis";
  RETURN_IF_ERROR(MakeDirs(plan.data_dir));
  ASSIGN_OR_RETURN(const std::string socket, SocketPath(plan.data_dir));
  plan.url = "unix://" + socket;
  plan.argv = {"redis-server", "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700",
               "--dir", plan.data_dir, "--appendonly", "yes", "--appendfsync", config.appendfsync,
               "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no",
               "--logfile", ""};
  return plan;
}

absl::Status WaitForRedis(const std::string& url, double timeout_s) {
  const auto start = std::chrono::steady_clock::now();
  absl::Status last;
  do {
    auto connection = RedisConnection::Create(url, /*command_timeout_s=*/1.0);
    if (!connection.ok()) return Annotate(connection.status(), "redis.url");
    const auto reply = (*connection)->Command({"PING"});
    if (reply.ok()) return absl::OkStatus();
    last = reply.status();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  } while (SecondsSince(start) < timeout_s);
  return absl::UnavailableError("redis.url: no answer from " + url + ": " +
                                std::string(last.message()));
}

}  // namespace tramontane
