#include "model/value_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "model/checkpoint.h"
#include "model/guard_torch.h"
#include "model/packed_attention.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

// Rows that are computed together; one that is longer is computed alone.
constexpr size_t kPassTokens = 4096;

using ValueRow = std::vector<int32_t>;

// [rows]: the values behind the last tokens of rows [begin, end).
at::Tensor PassOver(Transformer& body, const ValueHead& head, const ValueRow* begin,
                    const ValueRow* end) {
  std::vector<int64_t> offsets = {0};
  for (const ValueRow* row = begin; row != end; ++row)
    offsets.push_back(offsets.back() + static_cast<int64_t>(row->size()));
  at::Tensor tokens_T = at::empty({offsets.back()}, at::kLong);
  at::Tensor positions_T = at::empty({offsets.back()}, at::kLong);
  at::Tensor last_R = at::empty({end - begin}, at::kLong);
  int64_t* token = tokens_T.mutable_data_ptr<int64_t>();
  int64_t* position = positions_T.mutable_data_ptr<int64_t>();
  for (int64_t r = 0; r < end - begin; ++r) {
    const ValueRow& row = begin[r];
    token = std::ranges::copy(row, token).out;
    for (size_t t = 0; t < row.size(); ++t) *position++ = static_cast<int64_t>(t);
    last_R.mutable_data_ptr<int64_t>()[r] = offsets[static_cast<size_t>(r) + 1] - 1;
  }
  PackedAttention attention(offsets);
  const at::Tensor hidden_TD = body.Forward(tokens_T, positions_T, attention);
  return head.Of(hidden_TD.index_select(0, last_R)).to(at::kDouble).contiguous();
}

}  // namespace

ValueModel::ValueModel(std::shared_ptr<Transformer> body, ValueHead head)
    : body_(std::move(body)), head_(std::move(head)) {}
ValueModel::~ValueModel() = default;
const ModelConfig& ValueModel::config() const { return body_->config(); }

absl::StatusOr<std::unique_ptr<ValueModel>> ValueModel::Load(const std::string& folder) {
  ASSIGN_OR_RETURN(std::shared_ptr<Transformer> body, LoadTransformer(folder));
  ValueHead head{at::zeros({body->config().hidden_size}), at::zeros({1})};
  const absl::Status loaded = LoadValueHead(folder, head);
  if (absl::IsNotFound(loaded))
    return absl::NotFoundError(std::string(loaded.message()) +
                               ": a critic is the folder `critic` of a checkpoint whose run has "
                               "algorithm.advantage.baseline value");
  RETURN_IF_ERROR(loaded);
  return std::unique_ptr<ValueModel>(new ValueModel(std::move(body), std::move(head)));
}

absl::StatusOr<std::vector<double>> ValueModel::LastValues(
    const std::vector<std::vector<int32_t>>& rows) {
  std::vector<double> values;
  for (size_t begin = 0; begin < rows.size();) {
    size_t end = begin + 1, tokens = rows[begin].size();
    while (end < rows.size() && tokens + rows[end].size() <= kPassTokens)
      tokens += rows[end++].size();
    RETURN_IF_ERROR(GuardTorch([&] {
      const at::NoGradGuard no_grad;
      const at::Tensor pass_R = PassOver(*body_, head_, &rows[begin], &rows[begin] + (end - begin));
      const double* pass = pass_R.const_data_ptr<double>();
      values.insert(values.end(), pass, pass + pass_R.numel());
    }));
    begin = end;
  }
  return values;
}

}  // namespace tramontane
