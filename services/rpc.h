// Small gRPC helpers that every service shares: status conversion and channels whose limits match
// those of our servers.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"

namespace tramontane {

// Largest message either side accepts. Weights never travel in messages.
inline constexpr int kMaxMessageBytes = 64 << 20;
// Clients ping after this long without traffic, servers tolerate half of it.
inline constexpr int kKeepaliveTimeMs = 20'000;
inline constexpr int kKeepaliveTimeoutMs = 10'000;

// The codes of both worlds have the same numbers.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

// A lazily connected, reconnecting plaintext channel. Own connection (no sharing between calls of
// this function), so that a slow peer of one never throttles another.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address);

// Sets the deadline `seconds` from now.
void SetDeadline(grpc::ClientContext& context, double seconds);

}  // namespace tramontane
