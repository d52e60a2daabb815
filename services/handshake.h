// Who a process belongs to, compared with the first call between two peers. A skew is
// FAILED_PRECONDITION with both sides' values.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "tramontane/v1/common.pb.h"

namespace tramontane {

// Raised with every incompatible change under proto/ (protocol_version.cc).
extern const uint32_t kProtocolVersion;
inline constexpr char kBuildVersion[] = "0.1.0";

// Empty fields are unknown here and are not compared.
struct Identity {
  std::string run_id = "";
  std::string tokenizer_sha256 = "";
  std::string template_sha256 = "";
};

// What `--version` prints: "tramontane-trainer 0.1.0 (protocol 1)".
std::string VersionLine(const std::string& program);

v1::Handshake MakeHandshake(const Identity& own);
// `peer_name` is used in the message only. A peer without a handshake has protocol version 0.
absl::Status CheckHandshake(const v1::Handshake& peer, const Identity& own,
                            const std::string& peer_name);

}  // namespace tramontane
