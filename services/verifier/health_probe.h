// One question to a server's standard health service. Blocks until answered or out of time.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"

namespace tramontane {

// OK when `service` is SERVING, or when the server has no health service at all. Unavailable when
// it says otherwise; the call's own error when there was no answer.
absl::Status CheckHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service,
                         double timeout_s);

}  // namespace tramontane
