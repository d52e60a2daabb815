#include "trainer/ranks/control_links.h"

#include <poll.h>

#include <utility>

#include "common/status.h"

namespace tramontane {
namespace {

constexpr uint32_t kMostFrameBytes = 1 << 20;
constexpr auto kWordsTimeout = std::chrono::seconds(2);
// The first byte of what is said at the end.
constexpr char kFarewell = 'F', kGivesUp = 'A';

SteadyTime Soon() { return std::chrono::steady_clock::now() + kWordsTimeout; }

}  // namespace

absl::Status SendFrame(int fd, const std::string& bytes, SteadyTime deadline) {
  const auto size = static_cast<uint32_t>(bytes.size());
  RETURN_IF_ERROR(SendAll(fd, &size, sizeof(size), /*wake_fd=*/-1, deadline));
  return SendAll(fd, bytes.data(), bytes.size(), /*wake_fd=*/-1, deadline);
}

absl::StatusOr<std::string> ReceiveFrame(int fd, SteadyTime deadline) {
  uint32_t size = 0;
  RETURN_IF_ERROR(ReceiveAll(fd, &size, sizeof(size), /*wake_fd=*/-1, deadline));
  if (size > kMostFrameBytes) return absl::DataLossError("a peer that is no rank");
  std::string bytes(size, '\0');
  RETURN_IF_ERROR(ReceiveAll(fd, bytes.data(), size, /*wake_fd=*/-1, deadline));
  return bytes;
}

ControlLinks::ControlLinks(int rank, std::vector<UniqueFd> links)
    : rank_(rank), links_(std::move(links)) {}

ControlLinks::~ControlLinks() {
  if (rank_ == 0 && ended_.ok()) Tell(std::string(1, kFarewell));
}

absl::Status ControlLinks::Check() { return CheckWithin(0); }

absl::Status ControlLinks::CheckWithin(int timeout_ms) {
  if (!ended_.ok()) return ended_;
  std::vector<pollfd> fds;
  for (const UniqueFd& link : links_) fds.push_back({link.get(), POLLIN, 0});
  if (::poll(fds.data(), fds.size(), timeout_ms) <= 0) return absl::OkStatus();
  for (size_t i = 0; i < fds.size() && ended_.ok(); ++i) {
    if (fds[i].revents != 0) Hear(i);
  }
  return ended_;
}

// A link has something to say only when its rank ends.
void ControlLinks::Hear(size_t link) {
  const absl::StatusOr<std::string> words = ReceiveFrame(links_[link].get(), Soon());
  const std::string who = "rank " + std::to_string(link);
  if (!words.ok() || words->empty()) {
    ended_ = absl::UnavailableError(who + " is gone without a word");
  } else if (words->front() == kFarewell) {
    ended_ = absl::CancelledError("rank 0 has ended");
  } else {
    // What rank 0 passes on names the rank that it came from.
    const std::string text = words->substr(1);
    ended_ = absl::UnavailableError(rank_ == 0 ? who + " has given up: " + text : text);
  }
  if (rank_ == 0) Tell(kGivesUp + std::string(ended_.message()));
}

void ControlLinks::Abort(const std::string& why) {
  if (!ended_.ok()) return;
  ended_ = absl::UnavailableError("this rank has given up: " + why);
  Tell(kGivesUp + (rank_ == 0 ? "rank 0 has given up: " + why : why));
}

void ControlLinks::Tell(const std::string& words) {
  for (const UniqueFd& link : links_) {
    // One that is dead cannot be told.
    if (link.valid()) SendFrame(link.get(), words, Soon()).IgnoreError();
  }
}

}  // namespace tramontane
