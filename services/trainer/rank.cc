#include "services/trainer/rank.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <memory>

#include "common/log.h"
#include "common/status.h"
#include "trainer/learner/rank_worker.h"
#include "trainer/ranks/local_ranks.h"
#include "trainer/ranks/rendezvous.h"

namespace tramontane {
namespace {

absl::Status Serve(const RankArguments& arguments) {
  std::unique_ptr<RankGroup> group;
  ASSIGN_OR_RETURN(
      group, JoinRanks(arguments.address, arguments.rank, RankToken(), arguments.join_timeout_s));
  return ServeRank(*group);
}

}  // namespace

int RunRank(const RankArguments& arguments) {
  InitLogging("trainer-rank-" + std::to_string(arguments.rank));
  if (arguments.parent != 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != arguments.parent) return 1;  // it is dead already
  }
  const absl::Status status = Serve(arguments);
  if (!status.ok()) LogError("rank_ended", {{"rank", arguments.rank}, {"error", status}});
  return status.ok() ? 0 : 1;
}

}  // namespace tramontane
