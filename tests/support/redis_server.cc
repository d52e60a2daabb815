#include "tests/support/redis_server.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include "common/status.h"
#include "queue/redis.h"

namespace tramontane {

absl::StatusOr<std::unique_ptr<RedisServer>> RedisServer::Start() {
  std::unique_ptr<RedisServer> server(new RedisServer());
  RETURN_IF_ERROR(server->Launch());
  return server;
}

RedisServer::~RedisServer() { Kill(); }

RedisSection RedisServer::config() const {
  RedisSection section;
  section.url = "unix://" + dir_.path() + "/redis.sock";
  section.command_timeout_s = 1;
  return section;
}

absl::Status RedisServer::Launch() {
  const std::string socket = dir_.path() + "/redis.sock";
  std::vector<std::string> argv = {"redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir_.path(),
                                   "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                                   "--maxmemory", "256mb", "--maxmemory-policy", "noeviction",
                                   "--daemonize", "no", "--logfile", dir_.path() + "/redis.log"};
  std::vector<char*> raw;
  for (std::string& argument : argv) raw.push_back(argument.data());
  raw.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) return absl::InternalError("fork failed");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::execvp(raw[0], raw.data());
    ::_exit(127);
  }
  for (int attempt = 0; attempt < 1000; ++attempt) {
    absl::StatusOr<std::unique_ptr<RedisConnection>> connection = RedisConnection::Create(config().url, 1);
    if (connection.ok() && (*connection)->Command({"PING"}).ok()) return absl::OkStatus();
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return absl::InternalError("redis-server ended at once; is it installed?");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return absl::DeadlineExceededError("redis-server did not answer within 10 s");
}

void RedisServer::Pause() { ::kill(pid_, SIGSTOP); }
void RedisServer::Resume() { ::kill(pid_, SIGCONT); }

void RedisServer::Kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

absl::Status RedisServer::Restart() {
  Kill();
  return Launch();
}

absl::Status RedisServer::RestartEmpty() {
  Kill();
  for (const auto& item : std::filesystem::directory_iterator(dir_.path())) {
    std::filesystem::remove_all(item.path());
  }
  return Launch();
}

}  // namespace tramontane
