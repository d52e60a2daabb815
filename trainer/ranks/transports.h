// The two ways that bytes take between ranks. Made by trainer/ranks/rendezvous.cc alone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "trainer/ranks/control_links.h"
#include "trainer/ranks/rank_group.h"

namespace tramontane {

struct RankSeat {
  int rank = 0, size = 1;
  double timeout_s = 600;  // a silent rank ends the group after so long
  std::vector<UniqueFd> control;
};

// Memory that the ranks of one host share. Rank 0 makes it; others find it by `path` as long as
// rank 0 lives, and nothing is left behind when all are killed.
class RankMemory {
 public:
  // ResourceExhausted when there is no room.
  static absl::StatusOr<RankMemory> Make(int ranks);
  static absl::StatusOr<RankMemory> Open(const std::string& path, int ranks);
  RankMemory(RankMemory&& other) noexcept;
  RankMemory& operator=(RankMemory&&) = delete;
  ~RankMemory();

  std::string path() const;
  char* data() const { return data_; }

 private:
  RankMemory(UniqueFd fd, char* data, size_t bytes);

  UniqueFd fd_;
  char* data_;
  size_t bytes_;
};

std::unique_ptr<RankGroup> MakeSharedMemoryRanks(RankSeat seat, RankMemory memory);

// `peers`: a connection to every other rank, by rank; this rank's own is invalid.
std::unique_ptr<RankGroup> MakeTcpRanks(RankSeat seat, std::vector<UniqueFd> peers);

}  // namespace tramontane
