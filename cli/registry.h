// The registry of verifiers: which versions there are, which one is in use, which one is looked at.
// A folder, one subfolder a verifier:
//
//   NAME/versions/VERSION.json   what was submitted: digest, and package or address. Never another
//                                digest; a service that moved may be submitted again
//   NAME/packages/…              the packages of `tramontane-verifier pack`
//   NAME/state.json              {"current", "shadow", "canary_fraction",
//                                 "history": [{"version", "action", "at", "report"}]}
//
// A run takes what is current when it is first started and keeps to it: version and digest are
// written into its configuration. Changes are made under a lock; every file appears whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

// TRAMONTANE_REGISTRY, else XDG_DATA_HOME/tramontane/verifiers, else ~/.local/share/….
std::string RegistryFolder();

struct RegisteredVersion {
  std::string name, version, digest;
  std::string address;  // of a service that runs elsewhere; or
  std::string package;  // path of the package, and
  std::string python;   // the interpreter that serves it
  int64_t number = 0;   // in the order of submission, from 1; given by the registry
};

struct RegisteredVerifier {
  std::string name;
  std::vector<RegisteredVersion> versions;  // oldest first
  std::string current, shadow;              // versions; empty: none
  double canary_fraction = 0;               // of the groups that the shadow judges
  Json history = Json::array();
};

class VerifierRegistry {
 public:
  explicit VerifierRegistry(std::string folder) : folder_(std::move(folder)) {}

  // `manifest`: the NAME-VERSION.json that `tramontane-verifier pack` wrote; its package lies
  // beside it. The first version of a name becomes current. AlreadyExists when name and version are
  // there with another digest: what was judged by a version must stay what it was.
  absl::StatusOr<RegisteredVersion> SubmitPackage(const std::string& manifest,
                                                  const std::string& python) const;
  absl::StatusOr<RegisteredVersion> SubmitService(RegisteredVersion service) const;

  absl::StatusOr<std::vector<RegisteredVerifier>> List() const;
  absl::StatusOr<RegisteredVerifier> Get(const std::string& name) const;  // NotFound
  // NAME (its current version) or NAME@VERSION.
  absl::StatusOr<RegisteredVersion> Find(const std::string& use) const;

  // Runs that start from now on show `version` their samples as well, beside the current one;
  // empty: none. `report`: a comparison on stored rollouts, or null. `canary_fraction` of their
  // groups it judges in place of the current one.
  absl::Status Shadow(const std::string& name, const std::string& version, const Json& report,
                      double canary_fraction = 0) const;
  // Makes `version` current. FailedPrecondition unless a report says how its scores differ: this
  // one (not null), or one kept by Shadow.
  absl::Status Promote(const std::string& name, const std::string& version,
                       const Json& report) const;
  // Back to what was current before; returns that.
  absl::StatusOr<std::string> Rollback(const std::string& name) const;

  // Entries with `use`: name, version and digest of what that is now; a shadow becomes an entry of
  // its own. What is pinned already stays.
  absl::Status Pin(RunConfig& config) const;
  // Turns `use` into the command or address that it stands for. FailedPrecondition when the digest
  // pinned is not the registered one.
  absl::Status FillIn(VerifierSection& verifier) const;

 private:
  std::string VersionPath(const std::string& name, const std::string& version) const;
  absl::StatusOr<RegisteredVersion> Add(RegisteredVersion entry) const;
  absl::StatusOr<RegisteredVersion> ReadVersion(const std::string& path) const;
  absl::Status Change(const std::string& name, const std::string& action,
                      const std::string& version, const Json& report, double canary_fraction = 0) const;

  const std::string folder_;
};

}  // namespace tramontane
