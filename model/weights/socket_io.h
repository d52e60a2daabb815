// Blocking reads and writes on sockets, with a deadline and a way out: every wait also watches a
// wake descriptor (an eventfd), so that a closing owner never waits for a silent peer.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace tramontane {

using SteadyTime = std::chrono::steady_clock::time_point;

// `wake_fd` < 0: nothing to watch. Errors of all: Cancelled (woken), DeadlineExceeded, Unavailable
// (connection refused, closed or broken).
absl::Status SendAll(int fd, const void* data, size_t size, int wake_fd, SteadyTime deadline);
absl::Status ReceiveAll(int fd, void* data, size_t size, int wake_fd, SteadyTime deadline);

// "host:port"; IPv6 hosts in brackets. InvalidArgument when it is not that.
absl::StatusOr<UniqueFd> ConnectTcp(const std::string& address, SteadyTime deadline);
absl::StatusOr<UniqueFd> ListenTcp(const std::string& bind_address, int backlog);
absl::StatusOr<std::string> LocalAddress(int fd);  // host:port of a bound socket

}  // namespace tramontane
