// What rank 0 tells the other ranks to do, before each thing that all do together. Torch-free.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"
#include "data/dataset.h"
#include "trainer/ranks/rank_group.h"

namespace tramontane {

enum class RankOp { kCreate, kStep, kSftStep, kDpoStep, kSave, kLoad, kSftLoss, kDpoLoss };

struct RankCommand {
  RankOp op = RankOp::kStep;
  int64_t step = 0;
  std::string text = {};  // kSave, kLoad: the folder, which rank 0 alone looks at
  Json config = nullptr;  // kCreate: the run's, and the model's config.json
  Json model = nullptr;
  std::string dtype = {};  // kCreate: of the weights, as c10::toString has it
  // kStep: groups; kSftStep, kSftLoss: examples; kDpoStep, kDpoLoss: each pair as two, the chosen
  // one first.
  std::vector<std::string> records = {};
};

RankCommand StepCommand(const std::vector<Group>& groups, int64_t step);
RankCommand SftStepCommand(const std::vector<SftExample>& examples, int64_t step);
RankCommand DpoStepCommand(const std::vector<PreferencePair>& pairs, int64_t step);

std::string Encode(const RankCommand& command);
// DataLoss: not what Encode makes.
absl::StatusOr<RankCommand> DecodeRankCommand(const std::string& bytes);
absl::StatusOr<std::vector<Group>> GroupsOf(const RankCommand& command);
absl::StatusOr<std::vector<SftExample>> ExamplesOf(const RankCommand& command);
absl::StatusOr<std::vector<PreferencePair>> PairsOf(const RankCommand& command);

// Rank 0 says it, `make` being asked what; nothing happens without other ranks, or on them.
template <class F>
absl::Status Tell(RankGroup* ranks, F&& make) {
  if (ranks == nullptr || ranks->rank() != 0) return absl::OkStatus();
  std::string bytes = Encode(make());
  return ranks->Broadcast(bytes);  // they are listening
}

// What all ranks refuse alike (InvalidArgument) leaves them in step; any other error may have
// struck this one alone, and ends the group.
void GiveUpAfter(const absl::Status& status, RankGroup* ranks);

}  // namespace tramontane
