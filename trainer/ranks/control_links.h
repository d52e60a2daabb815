// One connection between rank 0 and each other rank, kept open as long as the group lives: a rank
// that dies is seen at once, and one that gives up says why. Used by trainer/ranks alone.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "model/weights/socket_io.h"

namespace tramontane {

// A frame: 32-bit length, bytes. DataLoss above 1 MiB.
absl::Status SendFrame(int fd, const std::string& bytes, SteadyTime deadline);
absl::StatusOr<std::string> ReceiveFrame(int fd, SteadyTime deadline);

class ControlLinks {
 public:
  // Rank 0: one descriptor a rank, the first invalid. Others: the one to rank 0.
  ControlLinks(int rank, std::vector<UniqueFd> links);
  // Rank 0 bids farewell, so that the others do not take its end for a death.
  ~ControlLinks();

  // OK while nobody has ended; after that the first end seen, again and again. Never blocks for
  // long.
  absl::Status Check();
  // As Check, but waits `timeout_ms` for an end to be seen.
  absl::Status CheckWithin(int timeout_ms);
  // This rank ends, for a reason.
  void Abort(const std::string& why);

 private:
  void Hear(size_t link);
  void Tell(const std::string& words);

  const int rank_;
  std::vector<UniqueFd> links_;
  absl::Status ended_;
};

}  // namespace tramontane
