// The frozen policy that a KL term compares with: a full copy of the weights (their memory again),
// taken at the start or anew every n steps, or a teacher; saved with each checkpoint.
// The learner's thread changes it; workers only read it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

class Transformer;

// Whether a run of this algorithm compares with a copy. `iterate` does not: the policy that sampled
// the batch is known by its log-probabilities.
bool NeedsReferenceModel(const AlgorithmConfig& algorithm);

class ReferenceModel {
 public:
  // Throws what tensor code throws.
  explicit ReferenceModel(const Transformer& policy);
  // Another model than the policy: a teacher.
  explicit ReferenceModel(std::shared_ptr<Transformer> teacher) : model_(std::move(teacher)) {}

  void CopyFrom(const Transformer& policy);
  // <dir>/reference is a Hugging Face folder without tokenizer.
  absl::Status Save(const std::string& dir) const;
  // NotFound: the checkpoint was made without a reference.
  absl::Status Load(const std::string& dir);

  Transformer& model() const { return *model_; }
  int64_t bytes() const;

 private:
  std::shared_ptr<Transformer> model_;
};

}  // namespace tramontane
