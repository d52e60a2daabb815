#include "trainer/ranks/trainer_ranks.h"

#include <utility>

#include "common/log.h"
#include "common/random_hex.h"
#include "common/status.h"
#include "trainer/ranks/rendezvous.h"

namespace tramontane {

absl::StatusOr<TrainerRanks> TrainerRanks::Start(const TrainerSection& trainer) {
  TrainerRanks ranks;
  if (trainer.ranks == 1) return ranks;
  const bool local = trainer.rank_launch == "local";
  // Started elsewhere, ranks must be given the same token by whoever starts them.
  const std::string token = local ? RandomHex(32) : RankToken();
  absl::StatusOr<RankHost> host = RankHost::Listen(trainer.rank_bind, token);
  if (!host.ok()) return Annotate(host.status(), "trainer.rank_bind");
  if (local) {
    ASSIGN_OR_RETURN(ranks.processes_, LocalRanks::Start(trainer.ranks, host->address(), token));
  }
  LogInfo("awaiting_ranks", {{"ranks", trainer.ranks}, {"address", host->address()}});
  const RankOptions options = {.size = trainer.ranks,
                               .shared_memory = trainer.rank_transport == "shared_memory" ||
                                                (trainer.rank_transport == "auto" && local),
                               .join_timeout_s = trainer.rank_join_timeout_s,
                               .timeout_s = trainer.rank_timeout_s};
  ASSIGN_OR_RETURN(ranks.group_, host->Await(options, [&] {
    return ranks.processes_ == nullptr ? absl::OkStatus() : ranks.processes_->AllAlive();
  }));
  LogInfo("ranks_joined", {{"ranks", trainer.ranks}});
  return ranks;
}

}  // namespace tramontane
