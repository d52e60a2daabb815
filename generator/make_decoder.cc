#include "generator/make_decoder.h"

#include <string>
#include <utility>

#include "common/log.h"
#include "common/status.h"
#include "generator/fused_decoder.h"
#include "generator/torch_decoder.h"
#include "model/guard_torch.h"
#include "model/ops/cpu/gemm.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

void Tell(const std::string& engine, const EngineOptions& options, MetricsRegistry& metrics) {
  const std::string isa = kernels::Gemm().isa;
  metrics
      .MakeGauge("tramontane_generator_engine_info",
                 {{"engine", engine}, {"isa", isa}, {"weights_dtype", options.weights_dtype}})
      .Set(1);
  LogInfo("engine", {{"engine", engine}, {"isa", isa}, {"weights_dtype", options.weights_dtype}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> MakeDecoder(const EngineOptions& options,
                                                     std::shared_ptr<Transformer> model,
                                                     MetricsRegistry& metrics) {
  if (options.engine != "fused" && options.engine != "torch")
    return absl::InvalidArgumentError("engine must be fused or torch, got '" + options.engine +
                                      "'");
  if (options.engine == "fused") {
    absl::StatusOr<std::unique_ptr<FusedDecoder>> fused = FusedDecoder::Create(options, *model);
    if (fused.ok()) {
      Tell("fused", options, metrics);
      return std::unique_ptr<Decoder>(*std::move(fused));
    }
    if (!absl::IsUnimplemented(fused.status())) return fused.status();
    LogWarn("engine_falls_back_to_torch", {{"why", std::string(fused.status().message())}});
  }
  if (options.weights_dtype != "float32")
    return absl::InvalidArgumentError("weights_dtype " + options.weights_dtype +
                                      ": only the fused engine rounds weights");
  std::unique_ptr<Decoder> torch;
  RETURN_IF_ERROR(
      GuardTorch([&] { torch = std::make_unique<TorchDecoder>(options, std::move(model)); }));
  Tell("torch", options, metrics);
  return torch;
}

}  // namespace tramontane
