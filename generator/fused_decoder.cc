#include "generator/fused_decoder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/ops/cpu/kernels.h"
#include "model/rope.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

constexpr int32_t kProbeBlockTokens = 16;
// Nats, on one token: several times what rounding costs models of the supported families, and less
// than what a wrong version does.
constexpr double kBfloat16Tolerance = 0.1, kInt8Tolerance = 0.5;

absl::StatusOr<kernels::WeightType> TypeOf(const std::string& weights_dtype) {
  if (weights_dtype == "float32") return kernels::WeightType::kFloat32;
  if (weights_dtype == "bfloat16") return kernels::WeightType::kBfloat16;
  if (weights_dtype == "int8") return kernels::WeightType::kInt8;
  return absl::InvalidArgumentError("weights_dtype must be float32, bfloat16 or int8, got '" +
                                    weights_dtype + "'");
}

absl::Status Unsupported(const std::string& why) { return absl::UnimplementedError(why); }

// Packs a model's own tensors. What the packer does not ask for, or asks for in vain, is what the
// fused engine does not know how to compute.
absl::Status PackModel(const Transformer& model, PackedWeights& packed) {
  std::unordered_map<std::string, at::Tensor> tensors;
  for (const auto& [name, tensor] : model.NamedWeights()) {
    if (!tensor.is_cpu() || tensor.scalar_type() != at::kFloat || !tensor.is_contiguous())
      return Unsupported("tensor '" + name + "' is not contiguous float32 on the CPU");
    tensors.emplace(name, tensor);
  }
  std::set<std::string> used;
  const absl::Status filled =
      packed.Fill([&](const std::string& name, int64_t floats) -> const float* {
        const auto found = tensors.find(name);
        if (found == tensors.end() || found->second.numel() != floats) return nullptr;
        used.insert(name);
        return found->second.const_data_ptr<float>();
      });
  if (!filled.ok()) return Unsupported(std::string(filled.message()));
  for (const auto& [name, tensor] : tensors) {
    if (!used.contains(name)) return Unsupported("tensor '" + name + "' has no place in it");
  }
  return absl::OkStatus();
}

// The angles of the trainer's own table, so that both sides rotate by the same floats.
RopeAngles AnglesOf(const ModelConfig& config, int64_t positions) {
  const c10::InferenceMode inference;
  const RopeRows rows = RopeTable(config, at::kCPU, at::kFloat).First(positions);
  const auto copy = [](const at::Tensor& t) {
    return std::vector<float>(t.const_data_ptr<float>(), t.const_data_ptr<float>() + t.numel());
  };
  return {copy(rows.cos_PH), copy(rows.sin_PH), positions};
}

}  // namespace

absl::StatusOr<std::unique_ptr<FusedDecoder>> FusedDecoder::Create(const EngineOptions& options,
                                                                   const Transformer& model) {
  const ModelConfig& config = model.config();
  ASSIGN_OR_RETURN(const kernels::WeightType type, TypeOf(options.weights_dtype));
  std::unique_ptr<FusedDecoder> decoder;
  absl::Status packed;
  RETURN_IF_ERROR(GuardTorch([&] {
    auto weights = std::make_shared<PackedWeights>(config, type);
    packed = PackModel(model, *weights);
    if (!packed.ok()) return;
    const int64_t positions =
        std::min(config.max_position_embeddings,
                 int64_t{options.kv_blocks} * int64_t{options.kv_block_tokens});
    decoder.reset(
        new FusedDecoder(options, config, type, AnglesOf(config, positions), std::move(weights)));
  }));
  RETURN_IF_ERROR(packed);
  return decoder;
}

FusedDecoder::FusedDecoder(const EngineOptions& options, const ModelConfig& config,
                           kernels::WeightType type, RopeAngles angles,
                           std::shared_ptr<PackedWeights> weights)
    : config_(config),
      type_(type),
      positions_(angles.positions),
      team_(options.threads),
      model_(config_, std::move(angles),
             options.max_running_sequences + options.prefill_chunk_tokens,
             options.max_running_sequences, team_),
      kv_(config_, options.kv_blocks, options.kv_block_tokens),
      weights_(std::move(weights)) {
  step_.paged.block_tokens = options.kv_block_tokens;
}

void FusedDecoder::Build(const StepPlan& plan, int32_t ahead) {
  step_.Clear();
  for (const StepItem& item : plan.items) {
    const Sequence& sequence = *item.sequence;
    const int32_t row = static_cast<int32_t>(step_.tokens.size());
    step_.paged.sequences.push_back(
        {.first_row = row,
         .num_rows = item.count,
         .first_position = item.start,
         .table_begin = static_cast<int32_t>(step_.paged.block_tables.size())});
    step_.paged.block_tables.insert(step_.paged.block_tables.end(), sequence.blocks.begin(),
                                    sequence.blocks.end());
    for (int32_t i = 0; i < item.count; ++i) {
      step_.tokens.push_back(sequence.tokens[item.start + i + ahead]);
      step_.positions.push_back(item.start + i);
    }
    for (int32_t i = item.count - item.logit_rows; i < item.count; ++i) {
      step_.wanted_rows.push_back(row + i);
    }
  }
}

absl::StatusOr<LogitRows> FusedDecoder::Forward(const StepPlan& plan) {
  LogitRows logits;
  RETURN_IF_ERROR(GuardTorch([&] {  // for want of memory, should a step outgrow its buffers
    for (const BlockCopy& copy : plan.copies) kv_.CopyBlock(copy.from, copy.to);
    Build(plan, /*ahead=*/0);
    logits = model_.Forward(*weights_, step_, kv_);
  }));
  return logits;
}

absl::StatusOr<std::vector<int32_t>> FusedDecoder::Foresee(const StepPlan& plan) {
  std::vector<int32_t> likeliest;
  RETURN_IF_ERROR(GuardTorch([&] {
    Build(plan, /*ahead=*/1);
    from_.clear();
    for (const StepItem& item : plan.items) {
      for (int32_t i = 0; i < item.count; ++i) from_.push_back(item.row + i);
    }
    const LogitRows logits = model_.Foresee(*weights_, step_, from_, kv_);
    for (int32_t row = 0; row < plan.logit_rows; ++row) {
      const auto first = logits[row].begin();
      likeliest.push_back(static_cast<int32_t>(std::max_element(first, logits[row].end()) - first));
    }
  }));
  return likeliest;
}

double FusedDecoder::RoundingTolerance() const {
  switch (type_) {
    case kernels::WeightType::kFloat32:
      return 0;
    case kernels::WeightType::kBfloat16:
      return kBfloat16Tolerance;
    case kernels::WeightType::kInt8:
      return kInt8Tolerance;
  }
  return 0;
}

absl::Status FusedDecoder::Prepare(StagedWeights& weights) {
  std::shared_ptr<PackedWeights> packed;
  {
    std::lock_guard lock(spare_mutex_);
    packed = std::move(spare_);
  }
  if (packed == nullptr) {
    RETURN_IF_ERROR(GuardTorch([&] { packed = std::make_shared<PackedWeights>(config_, type_); }));
  }
  std::unordered_map<std::string, const TensorEntry*> entries;
  for (const TensorEntry& entry : weights.manifest.tensors) entries.emplace(entry.name, &entry);
  RETURN_IF_ERROR(packed->Fill([&](const std::string& name, int64_t floats) -> const float* {
    const auto found = entries.find(name);
    if (found == entries.end() || found->second->dtype != "float32" ||
        found->second->size_bytes != static_cast<uint64_t>(floats) * sizeof(float))
      return nullptr;
    return reinterpret_cast<const float*>(weights.payload.data() + found->second->offset_bytes);
  }));
  // Here, beside the steps, and not in the pause that a swap makes.
  ASSIGN_OR_RETURN(weights.probe_scores, ScoreBeside(*packed, weights.manifest.probe_tokens));
  weights.packed = std::move(packed);
  weights.payload = {};
  return absl::OkStatus();
}

absl::Status FusedDecoder::Apply(StagedWeights& weights) {
  if (weights.packed == nullptr) return absl::InternalError("weights were not prepared");
  std::swap(weights_, weights.packed);
  std::lock_guard lock(spare_mutex_);
  spare_ = std::move(weights.packed);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> FusedDecoder::Score(const std::vector<int32_t>& tokens) {
  return ScoreBeside(*weights_, tokens);
}

absl::StatusOr<std::vector<float>> FusedDecoder::ScoreBeside(
    const PackedWeights& weights, const std::vector<int32_t>& tokens) const {
  const int32_t size = static_cast<int32_t>(tokens.size());
  if (size < 2) return std::vector<float>();
  if (size > positions_)
    return absl::InvalidArgumentError("cannot score " + std::to_string(size) +
                                      " tokens: model and cache hold " +
                                      std::to_string(positions_));
  std::vector<float> scores(size - 1);
  RETURN_IF_ERROR(GuardTorch([&] {
    const int32_t blocks = (size + kProbeBlockTokens - 1) / kProbeBlockTokens;
    const PagedKv kv(config_, blocks, kProbeBlockTokens);
    ThreadTeam alone(1);
    FusedModel model(config_, AnglesOf(config_, size), size, size - 1, alone);
    FusedStep step;
    step.paged.block_tokens = kProbeBlockTokens;
    step.paged.sequences.push_back({.first_row = 0, .num_rows = size});
    for (int32_t b = 0; b < blocks; ++b) step.paged.block_tables.push_back(b);
    step.tokens = tokens;
    for (int32_t t = 0; t < size; ++t) step.positions.push_back(t);
    step.wanted_rows.assign(step.positions.begin(), step.positions.end() - 1);
    const LogitRows logits = model.Forward(weights, step, kv);
    for (int32_t t = 0; t + 1 < size; ++t) {
      const int64_t target = tokens[t + 1];
      float lse;
      kernels::Kernels<float>().log_softmax_gather(1, logits.vocab, logits[t].data(), 1.0, &target,
                                                   &scores[t], &lse, nullptr);
    }
  }));
  return scores;
}

}  // namespace tramontane
