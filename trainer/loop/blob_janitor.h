// Deletes the blobs of ended groups, once no recovery can need them: when a checkpoint later than
// their end is durable, and one interval longer in case that checkpoint turns out to be damaged.
// The learner's thread calls it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tramontane {

class BlobJanitor {
 public:
  void Ended(std::vector<std::string> blobs) {
    current_.insert(current_.end(), std::make_move_iterator(blobs.begin()),
                    std::make_move_iterator(blobs.end()));
  }
  // A checkpoint that holds everything ended so far is durable; returns what may be deleted.
  std::vector<std::string> CheckpointDurable() {
    std::vector<std::string> removable = std::move(previous_);
    previous_ = std::move(current_);
    current_.clear();
    return removable;
  }

 private:
  std::vector<std::string> current_;   // ended since the last checkpoint
  std::vector<std::string> previous_;  // ended between the last two
};

}  // namespace tramontane
