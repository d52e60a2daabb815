// Removes the blobs that a crash orphaned: written, and known neither to the journal nor to Redis.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/config.h"
#include "queue/blob_store.h"

namespace tramontane {

// `needed`: blobs that a recovery may still read. Young ones are left alone: a generator may be
// about to complete them. Uses a queue connection of its own; any one thread.
absl::Status SweepOrphanedBlobs(const RedisSection& redis, const std::string& run_id,
                                const std::vector<std::string>& needed, const BlobStore& blobs);

}  // namespace tramontane
