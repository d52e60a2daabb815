// Steps that are out of order: numbers that left their band (`bands`), and losses that were not
// finite. Says so, keeps the step's groups for a later look, pauses the run. The learner's thread
// alone.
//
//   <run>/dumps/step_<n>/step.json        the step's line, with what was wrong in "incidents"
//   <run>/dumps/step_<n>/group_<i>.record the groups it was trained on (common/record_io.h)
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/config.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "queue/blob_store.h"
#include "trainer/loop/loop_shared.h"

namespace tramontane {

class Incidents {
 public:
  static constexpr int kMostDumps = 16;  // of a process: the first ones tell

  // `blobs` and `events` outlive it.
  Incidents(std::map<std::string, BandSection> bands, std::string run_dir, const BlobStore& blobs,
            Events& events, MetricsRegistry& metrics);

  // `line`: as in metrics.jsonl; a band's number that it lacks is in order. `addresses`: of the
  // step's groups. An error only when the run could not be paused or the dump not be written.
  absl::Status Look(const Json& line, const std::vector<std::string>& addresses);

 private:
  struct Watch {
    BandSection band;
    Counter breaches;
    int32_t outside = 0;  // steps in a row
  };
  absl::Status Dump(Json line, const std::vector<std::string>& what,
                    const std::vector<std::string>& addresses);

  const std::string run_dir_;
  const BlobStore& blobs_;
  Events& events_;
  std::map<std::string, Watch> watches_;
  int dumps_ = 0;
};

}  // namespace tramontane
