#include "cli/registry.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <utility>

#include "cli/json_text.h"
#include "common/clock.h"
#include "common/files.h"
#include "common/hash.h"
#include "common/status.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFileBytes = size_t{16} << 20;

// Names become file names.
absl::Status CheckName(const std::string& what, const std::string& name) {
  static const std::regex allowed("[A-Za-z0-9][A-Za-z0-9._+-]{0,63}");
  if (std::regex_match(name, allowed)) return absl::OkStatus();
  return absl::InvalidArgumentError(what + " '" + name +
                                    "': letters, digits, . _ + and - are allowed");
}

absl::StatusOr<Json> ReadObject(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError(path + ": not a JSON object");
  return json;
}

// Held while state changes; released with the value.
class Lock {
 public:
  static absl::StatusOr<Lock> Take(const std::string& folder) {
    RETURN_IF_ERROR(MakeDirs(folder));
    Lock lock(::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (lock.fd_ < 0 || ::flock(lock.fd_, LOCK_EX) != 0)
      return ErrnoStatus(errno, folder + "/lock");
    return lock;
  }
  Lock(Lock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Lock& operator=(Lock&&) = delete;
  ~Lock() {
    if (fd_ >= 0) ::close(fd_);
  }

 private:
  explicit Lock(int fd) : fd_(fd) {}
  int fd_;
};

Json ToJson(const RegisteredVersion& v) {
  return {{"name", v.name},       {"version", v.version}, {"digest", v.digest},
          {"address", v.address}, {"package", v.package}, {"python", v.python},
          {"number", v.number}};
}

}  // namespace

std::string RegistryFolder() {
  if (const char* folder = std::getenv("TRAMONTANE_REGISTRY"); folder && *folder) return folder;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data && *data) {
    return std::string(data) + "/tramontane/verifiers";
  }
  const char* home = std::getenv("HOME");
  return std::string(home ? home : ".") + "/.local/share/tramontane/verifiers";
}

std::string VerifierRegistry::VersionPath(const std::string& name,
                                          const std::string& version) const {
  return folder_ + "/" + name + "/versions/" + version + ".json";
}

absl::StatusOr<RegisteredVersion> VerifierRegistry::SubmitPackage(const std::string& manifest,
                                                                  const std::string& python) const {
  ASSIGN_OR_RETURN(const Json json, ReadObject(manifest));
  RegisteredVersion entry{
      TextAt(json, "name"), TextAt(json, "version"), TextAt(json, "digest"), "", "", python, 0};
  const std::string file = TextAt(json, "package");
  if (entry.digest.empty() || file.empty() || file.find('/') != std::string::npos) {
    return absl::InvalidArgumentError(manifest + ": not the manifest of a packed verifier");
  }
  RETURN_IF_ERROR(CheckName("name", entry.name));
  RETURN_IF_ERROR(CheckName("version", entry.version));
  const std::string source = (fs::path(manifest).parent_path() / file).string();
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(source));
  if (Sha256Hex(bytes) != TextAt(json, "sha256")) {
    return absl::DataLossError(source + ": is not the package that " + manifest + " describes");
  }
  ASSIGN_OR_RETURN(const Lock lock, Lock::Take(folder_));
  const std::string packages = folder_ + "/" + entry.name + "/packages";
  RETURN_IF_ERROR(MakeDirs(packages));
  // Under its content's name: a package is never written over.
  entry.package = packages + "/" + TextAt(json, "sha256") + ".zip";
  RETURN_IF_ERROR(WriteFileAtomic(entry.package, bytes));
  return Add(entry);
}

absl::StatusOr<RegisteredVersion> VerifierRegistry::SubmitService(RegisteredVersion service) const {
  RETURN_IF_ERROR(CheckName("name", service.name));
  RETURN_IF_ERROR(CheckName("version", service.version));
  if (service.address.empty() || service.digest.empty()) {
    return absl::InvalidArgumentError("a service needs an address and a digest");
  }
  ASSIGN_OR_RETURN(const Lock lock, Lock::Take(folder_));
  return Add(service);
}

absl::StatusOr<RegisteredVersion> VerifierRegistry::Add(RegisteredVersion entry) const {
  const std::string path = VersionPath(entry.name, entry.version);
  if (const auto there = ReadVersion(path); there.ok()) {
    if (there->digest != entry.digest) {
      return absl::AlreadyExistsError(entry.name + "@" + entry.version + " is there with digest " +
                                      there->digest + ", this one has " + entry.digest +
                                      "; give it a new version");
    }
    entry.number = there->number;
    if (ToJson(entry) == ToJson(*there)) return entry;
  } else if (absl::IsNotFound(there.status())) {
    const auto others = Get(entry.name);
    if (!others.ok() && !absl::IsNotFound(others.status())) return others.status();
    entry.number = others.ok() ? others->versions.back().number + 1 : 1;
  } else {
    return there.status();
  }
  RETURN_IF_ERROR(MakeDirs(fs::path(path).parent_path().string()));
  RETURN_IF_ERROR(WriteFileAtomic(path, ToJson(entry).dump(1) + "\n"));
  ASSIGN_OR_RETURN(const RegisteredVerifier verifier, Get(entry.name));
  if (verifier.current.empty())
    RETURN_IF_ERROR(Change(entry.name, "promote", entry.version, Json()));
  return entry;
}

absl::StatusOr<RegisteredVersion> VerifierRegistry::ReadVersion(const std::string& path) const {
  ASSIGN_OR_RETURN(const Json json, ReadObject(path));
  return RegisteredVersion{TextAt(json, "name"),
                           TextAt(json, "version"),
                           TextAt(json, "digest"),
                           TextAt(json, "address"),
                           TextAt(json, "package"),
                           TextAt(json, "python"),
                           json.value("number", int64_t{0})};
}

absl::StatusOr<std::vector<RegisteredVerifier>> VerifierRegistry::List() const {
  std::vector<RegisteredVerifier> all;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    if (!entry.is_directory()) continue;
    ASSIGN_OR_RETURN(RegisteredVerifier verifier, Get(entry.path().filename().string()));
    all.push_back(std::move(verifier));
  }
  std::ranges::sort(all, {}, &RegisteredVerifier::name);
  return all;
}

absl::StatusOr<RegisteredVerifier> VerifierRegistry::Get(const std::string& name) const {
  RETURN_IF_ERROR(CheckName("name", name));
  RegisteredVerifier verifier{.name = name, .versions = {}, .current = "", .shadow = ""};
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_ + "/" + name + "/versions", error)) {
    if (entry.path().extension() != ".json") continue;
    ASSIGN_OR_RETURN(RegisteredVersion version, ReadVersion(entry.path().string()));
    verifier.versions.push_back(std::move(version));
  }
  std::ranges::sort(verifier.versions, {}, &RegisteredVersion::number);
  if (verifier.versions.empty()) {
    return absl::NotFoundError("no verifier '" + name + "' in the registry " + folder_);
  }
  const auto state = ReadObject(folder_ + "/" + name + "/state.json");
  if (absl::IsNotFound(state.status())) return verifier;
  RETURN_IF_ERROR(state.status());
  verifier.current = TextAt(*state, "current");
  verifier.shadow = TextAt(*state, "shadow");
  verifier.canary_fraction = state->value("canary_fraction", 0.0);
  verifier.history = state->value("history", Json::array());
  return verifier;
}

absl::StatusOr<RegisteredVersion> VerifierRegistry::Find(const std::string& use) const {
  const size_t at = use.find('@');
  const std::string name = use.substr(0, at);
  ASSIGN_OR_RETURN(const RegisteredVerifier verifier, Get(name));
  const std::string wanted = at == std::string::npos ? verifier.current : use.substr(at + 1);
  std::string known;
  for (const RegisteredVersion& version : verifier.versions) {
    if (version.version == wanted) return version;
    known += (known.empty() ? "" : ", ") + version.version;
  }
  return absl::NotFoundError("verifier '" + name + "' has no version '" + wanted + "'; it has " +
                             known);
}

absl::Status VerifierRegistry::Change(const std::string& name, const std::string& action,
                                      const std::string& version, const Json& report,
                                      double canary_fraction) const {
  ASSIGN_OR_RETURN(RegisteredVerifier verifier, Get(name));
  if (!version.empty()) RETURN_IF_ERROR(Find(name + "@" + version).status());
  if (action == "shadow") {
    verifier.shadow = version;
    verifier.canary_fraction = version.empty() ? 0 : canary_fraction;
  } else {
    verifier.current = version;
    if (verifier.shadow == version) {
      verifier.shadow.clear();
      verifier.canary_fraction = 0;
    }
  }
  verifier.history.push_back({{"version", version},
                              {"action", action},
                              {"at_unix_ms", SystemClock().NowUnixMs()},
                              {"report", report}});
  const Json state = {{"current", verifier.current},
                      {"shadow", verifier.shadow},
                      {"canary_fraction", verifier.canary_fraction},
                      {"history", verifier.history}};
  return WriteFileAtomic(folder_ + "/" + name + "/state.json", state.dump(1) + "\n");
}

absl::Status VerifierRegistry::Shadow(const std::string& name, const std::string& version,
                                      const Json& report, double canary_fraction) const {
  ASSIGN_OR_RETURN(const Lock lock, Lock::Take(folder_));
  if (!(canary_fraction >= 0 && canary_fraction <= 1)) {
    return absl::InvalidArgumentError("the canary's share of the groups: must be between 0 and 1");
  }
  return Change(name, "shadow", version, report, canary_fraction);
}

absl::Status VerifierRegistry::Promote(const std::string& name, const std::string& version,
                                       const Json& report) const {
  ASSIGN_OR_RETURN(const Lock lock, Lock::Take(folder_));
  ASSIGN_OR_RETURN(const RegisteredVerifier verifier, Get(name));
  const bool compared = std::ranges::any_of(verifier.history, [&](const Json& entry) {
    return TextAt(entry, "version") == version && entry.contains("report") &&
           !entry["report"].is_null();
  });
  if (report.is_null() && !compared) {
    return absl::FailedPreconditionError(
        "nobody has looked yet how the scores of " + name + "@" + version +
        " differ: give --run RUN to compare on its rollouts, or --force");
  }
  return Change(name, "promote", version, report);
}

absl::StatusOr<std::string> VerifierRegistry::Rollback(const std::string& name) const {
  ASSIGN_OR_RETURN(const Lock lock, Lock::Take(folder_));
  ASSIGN_OR_RETURN(const RegisteredVerifier verifier, Get(name));
  // What was current, in order, as the promotions and rollbacks so far have left it. A promotion of
  // what was current changed nothing.
  std::vector<std::string> line;
  for (const Json& entry : verifier.history) {
    const std::string version = TextAt(entry, "version");
    const bool changed = line.empty() || line.back() != version;
    if (TextAt(entry, "action") == "promote" && changed) line.push_back(version);
    if (TextAt(entry, "action") == "rollback" && !line.empty()) line.pop_back();
  }
  if (line.size() < 2)
    return absl::FailedPreconditionError(name + ": no version was current before");
  const std::string before = line[line.size() - 2];
  RETURN_IF_ERROR(Change(name, "rollback", before, Json()));
  return before;
}

absl::Status VerifierRegistry::Pin(RunConfig& config) const {
  std::map<std::string, VerifierSection> shadows;
  for (auto& [key, section] : config.verifiers) {
    if (section.use.empty()) continue;
    const std::string where = "verifiers." + key + ".use";
    const auto version = Find(section.use);
    if (!version.ok()) return Annotate(version.status(), where);
    const bool newest = section.use.find('@') == std::string::npos;
    const auto verifier = Get(version->name);
    if (!verifier.ok()) return Annotate(verifier.status(), where);
    if (newest && section.shadow.empty() && !verifier->shadow.empty()) {
      section.shadow = key + "-shadow";
      section.canary_fraction = verifier->canary_fraction;
      VerifierSection shadow = section;
      shadow.use = version->name + "@" + verifier->shadow;
      shadow.shadow.clear();
      shadow.canary_fraction = 0;
      shadow.version = shadow.digest = "";
      shadows[section.shadow] = std::move(shadow);
    }
    section.use = version->name + "@" + version->version;
    if (section.version.empty()) section.version = version->version;
    if (section.digest.empty()) section.digest = version->digest;
  }
  for (auto& [key, shadow] : shadows) {
    ASSIGN_OR_RETURN(const RegisteredVersion version, Find(shadow.use));
    shadow.version = version.version;
    shadow.digest = version.digest;
    config.verifiers.emplace(key, std::move(shadow));
  }
  return absl::OkStatus();
}

absl::Status VerifierRegistry::FillIn(VerifierSection& verifier) const {
  if (verifier.use.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const RegisteredVersion version, Find(verifier.use));
  if (!verifier.digest.empty() && verifier.digest != version.digest) {
    return absl::FailedPreconditionError(verifier.use + ": pinned to digest " + verifier.digest +
                                         ", the registry has " + version.digest);
  }
  verifier.use.clear();
  verifier.digest = version.digest;
  verifier.version = version.version;
  verifier.address = version.address;
  if (!version.package.empty()) {
    verifier.command = {version.python,  "-m",     "tramontane_verifier", "serve",
                        version.package, "--bind", "127.0.0.1:{port}"};
  }
  return absl::OkStatus();
}

}  // namespace tramontane
