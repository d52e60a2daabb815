#include "services/handshake.h"

namespace tramontane {
namespace {

absl::Status Skew(const std::string& peer_name, const std::string& what, const std::string& theirs,
                  const std::string& ours) {
  return absl::FailedPreconditionError("handshake with " + peer_name + ": " + what +
                                       " differs: theirs " + theirs + ", ours " + ours);
}

absl::Status CheckText(const std::string& peer_name, const std::string& what,
                       const std::string& theirs, const std::string& ours) {
  if (theirs.empty() || ours.empty() || theirs == ours) return absl::OkStatus();
  return Skew(peer_name, what, "'" + theirs + "'", "'" + ours + "'");
}

}  // namespace

std::string VersionLine(const std::string& program) {
  return program + " " + kBuildVersion + " (protocol " + std::to_string(kProtocolVersion) + ")";
}

v1::Handshake MakeHandshake(const Identity& own) {
  v1::Handshake handshake;
  handshake.set_protocol_version(kProtocolVersion);
  handshake.set_build(kBuildVersion);
  handshake.set_run_id(own.run_id);
  handshake.set_tokenizer_sha256(own.tokenizer_sha256);
  handshake.set_template_sha256(own.template_sha256);
  return handshake;
}

absl::Status CheckHandshake(const v1::Handshake& peer, const Identity& own,
                            const std::string& peer_name) {
  if (peer.protocol_version() != kProtocolVersion) {
    return Skew(peer_name, "protocol_version",
                std::to_string(peer.protocol_version()) + " (build '" + peer.build() + "')",
                std::to_string(kProtocolVersion) + " (build '" + kBuildVersion + "')");
  }
  absl::Status status = CheckText(peer_name, "run_id", peer.run_id(), own.run_id);
  if (status.ok()) {
    status =
        CheckText(peer_name, "tokenizer_sha256", peer.tokenizer_sha256(), own.tokenizer_sha256);
  }
  if (status.ok()) {
    status = CheckText(peer_name, "template_sha256", peer.template_sha256(), own.template_sha256);
  }
  return status;
}

}  // namespace tramontane
