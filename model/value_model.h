// A critic out of a run's checkpoint: V(s), what the policy may expect to earn after the tokens so
// far. Its folder is what trainer/learner/critic.h saves: a body and a value head.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/value_head.h"

namespace tramontane {

struct ModelConfig;
class Transformer;

class ValueModel {
 public:
  // float32 on the CPU. NotFound: not a critic's folder. DataLoss: the head does not fit the body.
  static absl::StatusOr<std::unique_ptr<ValueModel>> Load(const std::string& folder);
  ~ValueModel();

  // V behind the last token of each row; rows are not empty. One thread at a time.
  absl::StatusOr<std::vector<double>> LastValues(const std::vector<std::vector<int32_t>>& rows);

  const ModelConfig& config() const;

 private:
  ValueModel(std::shared_ptr<Transformer> body, ValueHead head);

  const std::shared_ptr<Transformer> body_;
  const ValueHead head_;
};

}  // namespace tramontane
