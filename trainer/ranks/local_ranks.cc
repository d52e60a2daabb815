#include "trainer/ranks/local_ranks.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "common/files.h"
#include "common/status.h"

extern char** environ;

namespace tramontane {
namespace {

constexpr char kTokenVariable[] = "TRAMONTANE_RANK_TOKEN";
// Ranks that were told to end need this long to do so.
constexpr int kGraceMs = 3000;

std::vector<std::string> EnvironmentWith(const std::string& token) {
  std::vector<std::string> environment;
  const std::string name = std::string(kTokenVariable) + "=";
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, name.c_str(), name.size()) != 0) environment.emplace_back(*entry);
  }
  environment.push_back(name + token);
  return environment;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

absl::StatusOr<pid_t> StartRank(int rank, const std::string& address, const std::string& token) {
  std::vector<std::string> argv = {"tramontane-trainer",
                                   "rank",
                                   "--join",
                                   address,
                                   "--rank",
                                   std::to_string(rank),
                                   "--parent",
                                   std::to_string(::getpid())};
  std::vector<std::string> environment = EnvironmentWith(token);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, Pointers(argv).data(),
                                  Pointers(environment).data());
  if (error != 0) return ErrnoStatus(error, "rank " + std::to_string(rank));
  return pid;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalRanks>> LocalRanks::Start(int size, const std::string& address,
                                                              const std::string& token) {
  std::unique_ptr<LocalRanks> ranks(new LocalRanks());
  for (int rank = 1; rank < size; ++rank) {
    ASSIGN_OR_RETURN(const pid_t pid, StartRank(rank, address, token));
    ranks->pids_.push_back(pid);
  }
  return ranks;
}

LocalRanks::~LocalRanks() {
  for (int waited_ms = 0; waited_ms < kGraceMs; waited_ms += 10) {
    bool any = false;
    for (pid_t& pid : pids_) {
      if (pid > 0 && ::waitpid(pid, nullptr, WNOHANG) != 0) pid = -1;
      any = any || pid > 0;
    }
    if (!any) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (const pid_t pid : pids_) {
    if (pid <= 0) continue;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

absl::Status LocalRanks::AllAlive() {
  for (size_t i = 0; i < pids_.size(); ++i) {
    const std::string who = "rank " + std::to_string(i + 1);
    int status = 0;
    if (pids_[i] > 0 && ::waitpid(pids_[i], &status, WNOHANG) == 0) continue;
    pids_[i] = -1;
    return absl::UnavailableError(WIFSIGNALED(status)
                                      ? who + " ended by signal " + std::to_string(WTERMSIG(status))
                                      : who + " ended with exit status " +
                                            std::to_string(WEXITSTATUS(status)));
  }
  return absl::OkStatus();
}

std::string RankToken() {
  const char* token = std::getenv(kTokenVariable);
  return token == nullptr ? "" : token;
}

}  // namespace tramontane
