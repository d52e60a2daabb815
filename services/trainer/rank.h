// `tramontane-trainer rank`: a process that computes its share of every step of a trainer whose
// configuration says trainer.ranks. Rank 0 is the trainer itself.
#pragma once

#include <string>

namespace tramontane {

struct RankArguments {
  std::string address;  // where rank 0 listens
  int rank = 1;
  double join_timeout_s = 60;
  int parent = 0;  // pid of the process that started it; 0: it outlives that one
};

// The token is in TRAMONTANE_RANK_TOKEN. Exit code: 0 when rank 0 ended in order.
int RunRank(const RankArguments& arguments);

}  // namespace tramontane
