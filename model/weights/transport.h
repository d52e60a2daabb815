// Moves one version's payload from the trainer to a generator. Two implementations: POSIX shared
// memory on one host, a TCP stream between hosts. Torch-free; bytes only. Each generator fetches
// on its own, so a dead one costs nobody else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/weights/manifest.h"

namespace tramontane {

// Trainer side: offers the newest version's payload until it is replaced.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Copies the payload; earlier versions are dropped once nobody reads them. Any thread.
  virtual absl::Status Publish(const WeightManifest& manifest, const void* payload) = 0;
  // What a generator needs to fetch the published version: a shared-memory name or host:port.
  virtual std::string Address() const = 0;
};

// Generator side: fills `payload` (resized) with the manifest's version; verifies nothing.
// Errors: Unavailable (source gone), NotFound (version replaced), DeadlineExceeded.
class WeightFetcher {
 public:
  virtual ~WeightFetcher() = default;
  virtual absl::Status Fetch(const WeightManifest& manifest, const std::string& address,
                             double timeout_s, std::vector<char>& payload) = 0;
};

// `name_prefix` must be unique to the run; stale objects of a dead process are replaced.
absl::StatusOr<std::unique_ptr<WeightSource>> MakeSharedMemorySource(const std::string& name_prefix);
absl::StatusOr<std::unique_ptr<WeightSource>> MakeTcpSource(const std::string& bind_address);
std::unique_ptr<WeightFetcher> MakeSharedMemoryFetcher();
std::unique_ptr<WeightFetcher> MakeTcpFetcher();

}  // namespace tramontane
