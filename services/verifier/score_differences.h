// How the scores of stored samples would have been others: what `reverify` and `replay` report.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "common/rollout.h"
#include "services/verifier/stored_rollouts.h"

namespace tramontane {

// One thread at a time.
class ScoreDifferences {
 public:
  void Add(const StoredSample& stored, const Verdict& now);

  // {"samples", "scored_by_both", "same", "differing", "unscored", "without_params", "mean_old",
  //  "mean_new", "correct": {"both", "neither", "only_old", "only_new"}, "largest": […], "version",
  //  "digest"}; the same as of `tramontane-verifier replay`.
  Json Document() const;

 private:
  void Keep(double difference, const StoredSample& stored, const Verdict& now);

  int64_t samples_ = 0, both_ = 0, same_ = 0, unscored_ = 0, without_params_ = 0;
  double old_sum_ = 0, new_sum_ = 0;
  bool version_known_ = false;
  std::string version_, digest_;
  std::map<std::pair<bool, bool>, int64_t> correct_;  // by (was, is now)
  std::multimap<double, Json, std::greater<>> largest_;
};

std::string RenderDifferences(const Json& document);

}  // namespace tramontane
