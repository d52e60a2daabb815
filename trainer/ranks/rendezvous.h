// How ranks find each other. Rank 0 listens; the others dial it, say who they are, and are told the
// rest. Nobody becomes part of the group who does not know its token.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "trainer/ranks/rank_group.h"

namespace tramontane {

struct RankOptions {
  int size = 2;
  bool shared_memory = true;   // else TCP; all ranks are on this host
  double join_timeout_s = 60;  // until all have come
  double timeout_s = 600;      // a rank that is silent within a step for so long ends the group
};

class RankHost {
 public:
  // host:port; port 0 picks a free one. Unavailable: the address cannot be had.
  static absl::StatusOr<RankHost> Listen(const std::string& bind, std::string token);
  const std::string& address() const { return address_; }

  // Waits for ranks 1 to size - 1. `possible` is asked now and then whether they can still come;
  // its error ends the wait. DeadlineExceeded names the ranks that are missing. What does not know
  // the token is turned away. Returns when every rank has what it needs to go on without this one's
  // help; Unavailable names one that could not map the shared memory, and why.
  absl::StatusOr<std::unique_ptr<RankGroup>> Await(
      const RankOptions& options, const std::function<absl::Status()>& possible) const;

 private:
  RankHost(UniqueFd listener, std::string address, std::string token)
      : listener_(std::move(listener)), address_(std::move(address)), token_(std::move(token)) {}

  UniqueFd listener_;
  std::string address_, token_;
};

// Dials rank 0, again and again until it listens. DeadlineExceeded: it does not, for `timeout_s`.
// FailedPrecondition: it turned this rank away, and why.
absl::StatusOr<std::unique_ptr<RankGroup>> JoinRanks(const std::string& address, int rank,
                                                     const std::string& token, double timeout_s);

}  // namespace tramontane
