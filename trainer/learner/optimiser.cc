#include "trainer/learner/optimiser.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "common/status.h"
#include "model/guard_torch.h"
#include "trainer/learner/flat_ranges.h"
#include "trainer/learner/gradient_buckets.h"

namespace tramontane {
namespace {

// Moments travel in pieces of this size when a checkpoint is written or read.
constexpr size_t kPieceElements = size_t{1} << 20;

const std::vector<at::Tensor>& Trained(const std::vector<at::Tensor>& leaves) {
  for (const at::Tensor& leaf : leaves) leaf.set_requires_grad(true);
  return leaves;
}

Range ShardFor(const TrainerSection& trainer, size_t elements, const Crew& crew) {
  if (crew.ranks() == nullptr || trainer.zero == 0) return {0, elements};
  const Range shard = ShardOf(elements, crew.ranks()->rank(), crew.ranks()->size());
  TORCH_CHECK(shard.size() > 0, "trainer.zero: ", elements, " weights are too few for ",
              crew.ranks()->size(), " ranks");
  return shard;
}

// Stretches of `count` elements, one after the other.
std::vector<Range> PiecesOf(size_t count) {
  std::vector<Range> pieces;
  for (size_t begin = 0; begin < count; begin += kPieceElements)
    pieces.push_back({begin, std::min(begin + kPieceElements, count)});
  return pieces;
}

}  // namespace

Optimiser::Optimiser(std::unique_ptr<TrainedWeights> weights, const TrainerSection& trainer,
                     Crew& crew)
    : weights_(std::move(weights)),
      parameters_(TensorsOf(weights_->masters())),
      crew_(crew),
      hooks_(Trained(weights_->leaves())),
      elements_(CountElements(parameters_)),
      shard_(ShardFor(trainer, elements_, crew)),
      touched_(static_cast<size_t>(crew.threads())) {
  adamw_ = std::make_unique<AdamW>(
      shares() ? Pieces(parameters_, shard_) : parameters_,
      AdamW::Options{trainer.adam_beta1, trainer.adam_beta2, trainer.adam_epsilon});
  if (shares() && trainer.zero == 2) {
    buckets_ = std::make_unique<GradientBuckets>(parameters_, shard_, *crew.ranks());
  } else {
    for (int i = 0; i < crew.threads(); ++i) gradients_.push_back(MakeFlatLike(parameters_));
  }
  if (!shares()) {
    shard_gradients_ = gradients_[0].views;
    return;
  }
  // The same cuts as those of the weights.
  int64_t begin = 0;
  for (const at::Tensor& piece : Pieces(parameters_, shard_)) {
    shard_gradients_.push_back(Mine().narrow(0, begin, piece.numel()));
    begin += piece.numel();
  }
}

Optimiser::~Optimiser() = default;

void Optimiser::RunBackward(const at::Tensor& loss, const TakeGradient& take) const {
  hooks_.Backward(loss, [&](size_t leaf, const at::Tensor& gradient) {
    weights_->Translate(leaf, gradient, take);
  });
}

absl::Status Optimiser::Accumulate(
    const PackPlan& plan,
    const std::function<absl::Status(int32_t microbatch, const Backward& backward)>& compute) {
  if (buckets_ != nullptr) return AccumulateInBuckets(plan, compute);
  std::fill(touched_.begin(), touched_.end(), 0);
  return crew_.ForEach(plan, [&](int worker, int32_t microbatch) {
    const auto w = static_cast<size_t>(worker);
    const FlatTensor& sum = gradients_[w];
    if (!touched_[w]) RETURN_IF_ERROR(GuardTorch([&] { sum.flat.zero_(); }));
    touched_[w] = 1;
    return compute(microbatch, [&](const at::Tensor& loss) {
      RunBackward(loss, [&](size_t master, const at::Tensor& gradient) {
        sum.views[master].add_(gradient);
      });
    });
  });
}

// Every rank goes through as many passes as the one with the most, or they would wait for each
// other for ever: also a rank whose computation has failed.
absl::Status Optimiser::AccumulateInBuckets(
    const PackPlan& plan,
    const std::function<absl::Status(int32_t microbatch, const Backward& backward)>& compute) {
  size_t passes = 0;
  for (const std::vector<int32_t>& microbatches : plan.workers)
    passes = std::max(passes, microbatches.size());
  const std::vector<int32_t>& mine = crew_.Mine(plan, /*worker=*/0);
  absl::Status computed = GuardTorch([&] { buckets_->Clear(); });
  for (size_t pass = 0; pass < passes; ++pass) {
    buckets_->Begin();
    if (pass < mine.size() && computed.ok()) {
      computed = compute(mine[pass], [&](const at::Tensor& loss) {
        RunBackward(loss, [&](size_t master, const at::Tensor& gradient) {
          buckets_->Take(master, gradient);
        });
      });
    }
    RETURN_IF_ERROR(buckets_->End());
  }
  return crew_.ranks()->Agree(computed);
}

at::Tensor Optimiser::Mine() const {
  if (buckets_ != nullptr) return buckets_->shard();
  return gradients_[0].flat.narrow(0, static_cast<int64_t>(shard_.begin),
                                   static_cast<int64_t>(shard_.size()));
}

// Adds up the buffers of workers, then of ranks: all of it, or what this rank keeps.
absl::Status Optimiser::SumBuffers() {
  const at::NoGradGuard no_grad;
  const at::Tensor& sum = gradients_[0].flat;
  if (!touched_[0]) sum.zero_();
  for (size_t w = 1; w < gradients_.size(); ++w) {
    if (touched_[w]) sum.add_(gradients_[w].flat);
  }
  if (crew_.ranks() == nullptr) return absl::OkStatus();
  return WithSpan(sum, [&](auto span) {
    return shares() ? crew_.ranks()->ReduceScatterSum(span, ShardsWithin({0, elements_}, 1))
                    : crew_.ranks()->AllReduceSum(span);
  });
}

absl::StatusOr<double> Optimiser::Reduce() {
  double norm = 0;
  absl::Status status;
  RETURN_IF_ERROR(GuardTorch([&] {
    if (buckets_ == nullptr) status = SumBuffers();
    norm = at::linalg_vector_norm(Mine(), 2, std::nullopt, false, at::kDouble).item<double>();
  }));
  RETURN_IF_ERROR(status);
  if (!shares()) return norm;
  std::vector<double> square = {norm * norm};
  RETURN_IF_ERROR(crew_.ranks()->AllReduceSum(square));
  return std::sqrt(square[0]);
}

absl::Status Optimiser::Apply(double norm, const UpdateRule& rule) {
  RETURN_IF_ERROR(GuardTorch([&] {
    const at::NoGradGuard no_grad;
    const double scale = rule.max_grad_norm / (norm + 1e-6);
    if (scale < 1) Mine().mul_(scale);
    adamw_->Step(shard_gradients_, rule.learning_rate, rule.weight_decay);
  }));
  if (shares()) RETURN_IF_ERROR(GatherWeights());
  return GuardTorch([&] { weights_->Publish(); });
}

// Each rank's part of a stretch of the flat order, from its beginning, in units of `width`.
std::vector<Range> Optimiser::ShardsWithin(const Range& window, size_t width) const {
  std::vector<Range> shards;
  for (int r = 0; r < crew_.ranks()->size(); ++r) {
    const Range part = Within(ShardOf(elements_, r, crew_.ranks()->size()), window);
    shards.push_back({part.begin * width, part.end * width});
  }
  return shards;
}

absl::Status Optimiser::GatherWeights() {
  size_t begin = 0;
  for (const at::Tensor& parameter : parameters_) {
    const size_t end = begin + static_cast<size_t>(parameter.numel());
    RETURN_IF_ERROR(
        crew_.ranks()->AllGather(static_cast<char*>(parameter.detach().mutable_data_ptr()),
                                 ShardsWithin({begin, end}, parameter.element_size())));
    begin = end;
  }
  return absl::OkStatus();
}

// All of a moment on rank 0; nothing on the others.
absl::StatusOr<at::Tensor> Optimiser::Gather(const at::Tensor& moment) const {
  if (!shares()) return moment;
  at::Tensor whole, piece;
  RETURN_IF_ERROR(GuardTorch([&] {
    if (crew_.leads()) whole = at::empty({static_cast<int64_t>(elements_)}, moment.options());
    piece = at::empty({static_cast<int64_t>(kPieceElements)}, moment.options());
  }));
  const size_t width = moment.element_size();
  for (const Range& window : PiecesOf(elements_)) {
    const Range mine = Within(shard_, window);
    char* bytes = static_cast<char*>(piece.mutable_data_ptr());
    if (mine.size() > 0) {
      const char* from = static_cast<const char*>(moment.const_data_ptr()) +
                         width * (window.begin + mine.begin - shard_.begin);
      std::copy_n(from, width * mine.size(), bytes + width * mine.begin);
    }
    RETURN_IF_ERROR(crew_.ranks()->AllGather(bytes, ShardsWithin(window, width)));
    if (crew_.leads()) {
      std::copy_n(bytes, width * window.size(),
                  static_cast<char*>(whole.mutable_data_ptr()) + width * window.begin);
    }
  }
  return whole;
}

// Rank 0's whole moment; each keeps what it is to have.
absl::Status Optimiser::Scatter(const at::Tensor& whole, at::Tensor& moment) const {
  at::Tensor piece;
  RETURN_IF_ERROR(GuardTorch(
      [&] { piece = at::empty({static_cast<int64_t>(kPieceElements)}, moment.options()); }));
  const size_t width = moment.element_size();
  char* bytes = static_cast<char*>(piece.mutable_data_ptr());
  for (const Range& window : PiecesOf(elements_)) {
    if (crew_.leads()) {
      std::copy_n(static_cast<const char*>(whole.const_data_ptr()) + width * window.begin,
                  width * window.size(), bytes);
    }
    if (crew_.ranks() != nullptr)
      RETURN_IF_ERROR(crew_.ranks()->Broadcast(bytes, width * window.size()));
    const Range mine = Within(shard_, window);
    if (mine.size() == 0) continue;
    std::copy_n(bytes + width * mine.begin, width * mine.size(),
                static_cast<char*>(moment.mutable_data_ptr()) +
                    width * (window.begin + mine.begin - shard_.begin));
  }
  return absl::OkStatus();
}

absl::Status Optimiser::Save(const std::string& dir) const {
  OptimiserState state;
  ASSIGN_OR_RETURN(state.first, Gather(adamw_->first_moment()));
  ASSIGN_OR_RETURN(state.second, Gather(adamw_->second_moment()));
  state.updates = adamw_->updates();
  return crew_.Lead([&] { return SaveOptimiserState(dir, weights_->masters(), state); });
}

absl::Status Optimiser::Load(const std::string& dir) {
  OptimiserState state;
  RETURN_IF_ERROR(crew_.Lead([&]() -> absl::Status {
    ASSIGN_OR_RETURN(state, LoadOptimiserState(dir, weights_->masters()));
    return absl::OkStatus();
  }));
  at::Tensor first, second;
  RETURN_IF_ERROR(GuardTorch([&] {
    first = at::empty_like(adamw_->first_moment());
    second = at::empty_like(adamw_->second_moment());
  }));
  RETURN_IF_ERROR(Scatter(state.first, first));
  RETURN_IF_ERROR(Scatter(state.second, second));
  if (crew_.ranks() != nullptr)
    RETURN_IF_ERROR(crew_.ranks()->Broadcast(&state.updates, sizeof(state.updates)));
  return adamw_->Restore(first, second, state.updates);
}

int64_t Optimiser::state_bytes() const {
  return static_cast<int64_t>(adamw_->first_moment().nbytes() + adamw_->second_moment().nbytes());
}

int64_t Optimiser::gradient_bytes() const {
  if (buckets_ != nullptr) return buckets_->bytes();
  return static_cast<int64_t>(gradients_.size() * gradients_[0].flat.nbytes());
}

}  // namespace tramontane
