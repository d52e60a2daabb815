#include "verifier/sandbox/layers.h"

#include <algorithm>
#include <iterator>

#include "common/status.h"
#include "verifier/sandbox/jail_wire.h"

namespace tramontane {
namespace {

constexpr uint32_t kAlwaysNeeded = kLayerNoNewPrivs | kLayerSeccomp | kLayerRlimits;
constexpr uint32_t kNamespaces = kLayerUserNamespace | kLayerPidNamespace | kLayerMountNamespace |
                                 kLayerNetworkNamespace | kLayerIpcNamespace;

absl::Status Refused(const std::string& what) {
  return absl::FailedPreconditionError("sandbox: tier C, no program is run: " + what);
}

std::string NamesOf(uint32_t layers) {
  std::string names;
  for (int i = 0; i < kJailLayers; ++i) {
    if (layers & (1u << i)) names += (names.empty() ? "" : ", ") + std::string(kJailLayerNames[i]);
  }
  return names;
}

absl::Status CheckNames(const std::vector<std::string>& required) {
  for (const std::string& name : required) {
    if (std::find(std::begin(kJailLayerNames), std::end(kJailLayerNames), name) ==
        std::end(kJailLayerNames)) {
      return absl::InvalidArgumentError("sandbox.required_layers: no layer is named '" + name +
                                        "'; there are: " + NamesOf(~0u));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SandboxDescription> DescribeLayers(uint32_t layers, int landlock_abi,
                                                  const std::string& why_no_namespaces,
                                                  const SandboxSection& section) {
  RETURN_IF_ERROR(CheckNames(section.required_layers));
  if (const uint32_t lacking = kAlwaysNeeded & ~layers) {
    return Refused("missing " + NamesOf(lacking));
  }
  if ((layers & (kLayerMountNamespace | kLayerLandlock)) == 0) {
    return Refused("neither a mount namespace (" + why_no_namespaces +
                   ") nor Landlock keeps programs from the file system");
  }
  SandboxDescription description;
  description.runtime_class = section.runtime_class;
  description.tier = section.runtime_class.empty() ? "B" : "A";
  if (description.tier > section.required_tier) {
    return Refused("sandbox.required_tier is A, and no sandbox.runtime_class is declared");
  }
  for (int i = 0; i < kJailLayers; ++i) {
    const std::string name = kJailLayerNames[i];
    const uint32_t bit = 1u << i;
    if (layers & bit) {
      description.layers.push_back(bit == kLayerLandlock ? name + ":" + std::to_string(landlock_abi)
                                                         : name);
      continue;
    }
    const auto& required = section.required_layers;
    const std::string reason =
        (bit & kNamespaces) && !why_no_namespaces.empty() ? " (" + why_no_namespaces + ")" : "";
    if (std::find(required.begin(), required.end(), name) != required.end()) {
      return Refused("sandbox.required_layers: missing " + name + reason);
    }
    description.missing.push_back(name + reason);
  }
  return description;
}

RunLimits MostLimits(const SandboxSection& section) {
  return {.time_s = section.max_time_limit_s,
          .memory_bytes = int64_t{section.max_memory_mib} << 20,
          .output_bytes = int64_t{section.max_output_kib} << 10};
}

absl::Status CheckAsTight(uint32_t first, uint32_t later) {
  const uint32_t lacking = first & ~later;
  if (lacking == 0) return absl::OkStatus();
  return Refused("a jail lacks " + NamesOf(lacking) + ", which the first one had");
}

}  // namespace tramontane
