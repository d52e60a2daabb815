#include "services/sandbox/messages.h"

#include <cmath>
#include <utility>

namespace tramontane {

v1::ProgramLimits ToProto(const RunLimits& limits) {
  v1::ProgramLimits out;
  out.set_time_s(limits.time_s);
  out.set_memory_bytes(limits.memory_bytes);
  out.set_output_bytes(limits.output_bytes);
  return out;
}

RunLimits FromProto(const v1::ProgramLimits& limits) {
  return {.time_s = limits.time_s(),
          .memory_bytes = limits.memory_bytes(),
          .output_bytes = limits.output_bytes()};
}

v1::SandboxDescription ToProto(const SandboxDescription& description) {
  v1::SandboxDescription out;
  out.set_tier(description.tier);
  out.set_runtime_class(description.runtime_class);
  for (const std::string& layer : description.layers) out.add_layers(layer);
  for (const std::string& layer : description.missing) out.add_missing(layer);
  for (const std::string& language : description.languages) out.add_languages(language);
  for (const std::string& runtime : description.runtimes) out.add_runtimes(runtime);
  out.set_programs(static_cast<uint32_t>(description.programs));
  out.set_takes_files(description.takes_files);
  *out.mutable_most() = ToProto(description.most);
  return out;
}

SandboxDescription FromProto(const v1::SandboxDescription& description) {
  SandboxDescription out;
  out.tier = description.tier();
  out.runtime_class = description.runtime_class();
  out.layers.assign(description.layers().begin(), description.layers().end());
  out.missing.assign(description.missing().begin(), description.missing().end());
  out.languages.assign(description.languages().begin(), description.languages().end());
  out.runtimes.assign(description.runtimes().begin(), description.runtimes().end());
  out.programs = static_cast<int32_t>(description.programs());
  out.takes_files = description.takes_files();
  out.most = FromProto(description.most());
  return out;
}

v1::RunProgramResult ToProto(ProgramRun run) {
  v1::RunProgramResult out;
  out.set_end(static_cast<v1::ProgramEnd>(static_cast<int>(run.end) + 1));
  out.set_code(run.code);
  out.set_output(std::move(run.output));
  out.set_error(std::move(run.error));
  out.set_cpu_seconds(run.cpu_seconds);
  out.set_wall_seconds(run.wall_seconds);
  out.set_starved_seconds(run.starved_seconds);
  out.set_peak_memory_bytes(run.peak_memory_bytes);
  return out;
}

absl::StatusOr<ProgramRun> FromProto(v1::RunProgramResult result) {
  if (result.end() <= v1::PROGRAM_END_UNSPECIFIED || result.end() > v1::ProgramEnd_MAX ||
      !std::isfinite(result.cpu_seconds()) || !std::isfinite(result.wall_seconds()) ||
      !std::isfinite(result.starved_seconds())) {
    return absl::UnavailableError("sandbox: the service's answer makes no sense");
  }
  ProgramRun run;
  run.end = static_cast<RunEnd>(static_cast<int>(result.end()) - 1);
  run.code = result.code();
  run.output = std::move(*result.mutable_output());
  run.error = std::move(*result.mutable_error());
  run.cpu_seconds = result.cpu_seconds();
  run.wall_seconds = result.wall_seconds();
  run.starved_seconds = result.starved_seconds();
  run.peak_memory_bytes = result.peak_memory_bytes();
  return run;
}

}  // namespace tramontane
