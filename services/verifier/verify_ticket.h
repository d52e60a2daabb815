// To which group a rollout belongs that is to be verified.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace tramontane {

struct VerifyTicket {
  std::string gid;
  std::string owner;  // unique to this sampling of the group: what VerifierPool::Cancel takes
  int32_t samples =
      1;  // in the group; verifiers that judge whole groups are asked once all are here
  // Of the reward's parts, in place of the verifier's own; empty: those.
  std::map<std::string, double> reward_weights = {};
};

}  // namespace tramontane
