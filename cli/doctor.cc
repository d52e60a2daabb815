#include "cli/doctor.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <regex>

#include "cli/child_process.h"
#include "cli/json_text.h"
#include "cli/run_dir.h"
#include "cli/validate.h"
#include "common/config.h"
#include "common/status.h"
#include "services/handshake.h"
#include "trainer/ledger/journal.h"
#include "trainer/ledger/lineage.h"

namespace tramontane {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kProgramTimeoutS = 30;

Check Ok(const std::string& name, const std::string& detail) {
  return {name, Check::Result::kOk, detail};
}
Check Bad(const std::string& name, const std::string& detail) {
  return {name, Check::Result::kFailed, detail};
}
Check Warn(const std::string& name, const std::string& detail) {
  return {name, Check::Result::kWarning, detail};
}

// Starting a binary proves that its libraries (torch among them) are found; what it says of itself,
// that it belongs to this program.
Check CheckBinary(const std::string& folder, const std::string& program) {
  const std::string name = "binary " + program;
  const auto run = RunToEnd({folder + "/" + program, "--version"}, "/dev/null", kProgramTimeoutS);
  if (!run.ok()) return Bad(name, std::string(run.status().message()) + "; run ./tramontane build");
  if (!run->exit.clean())
    return Bad(name, "does not start (" + run->exit.ToString() + "); run ./tramontane setup");
  const std::string said = run->output.substr(0, run->output.find('\n'));
  if (!said.starts_with(VersionLine(program)) || said.find("Python") != std::string::npos) {
    return Bad(name,
               "is '" + said + "', not '" + VersionLine(program) + "'; run ./tramontane build");
  }
  return Ok(name, said);
}

// Two programs have this name: the built-in graders beside us, and the Python package's command,
// which a configuration's verifier commands may mean. Both are fine; which one PATH has, is said.
Check CheckVerifierOnPath() {
  const std::string name = "tramontane-verifier on PATH";
  const auto run = RunToEnd({"tramontane-verifier", "--version"}, "/dev/null", kProgramTimeoutS);
  if (!run.ok() || !run->exit.clean()) {
    return Ok(name, "none; Python verifiers are started as python3 -m tramontane_verifier");
  }
  const std::string said = run->output.substr(0, run->output.find('\n'));
  const std::string protocol = "(protocol " + std::to_string(kProtocolVersion) + ")";
  if (said.find(protocol) == std::string::npos) {
    return Warn(name, "is '" + said + "', which does not speak this program's " + protocol);
  }
  return Ok(name, said);
}

// What the `code` verifier runs programs in, found out by starting a jail. No other verifier needs
// it.
Check CheckSandbox(const std::string& folder) {
  const std::string name = "sandbox";
  const auto warn = [&](const std::string& why) {
    return Warn(name, why + "; the code verifier needs it");
  };
  const Check program = CheckBinary(folder, "tramontane-sandbox");
  if (program.result != Check::Result::kOk) return warn("tramontane-sandbox " + program.detail);
  const auto run = RunToEnd({folder + "/tramontane-sandbox", "describe", "--json"}, "/dev/null",
                            kProgramTimeoutS);
  if (!run.ok()) return warn(std::string(run.status().message()));
  const Json said = Json::parse(run->output, nullptr, /*allow_exceptions=*/false);
  if (!said.is_object())
    return warn("tramontane-sandbox describe ended with " + run->exit.ToString());
  if (said.contains("error")) return warn(TextAt(said["error"], "message"));
  std::string missing;
  for (const Json& layer : said.value("missing", Json::array())) {
    missing += (missing.empty() ? "; missing: " : ", ") + layer.get<std::string>();
  }
  return Ok(name, "jails of tier " + TextAt(said, "tier") + missing);
}

Check CheckProgram(const std::string& name, const std::vector<std::string>& argv,
                   const std::string& pattern, int least_major, bool needed) {
  const auto run = RunToEnd(argv, "/dev/null", kProgramTimeoutS);
  const auto missing = [&](const std::string& why) {
    return needed ? Bad(name, why) : Warn(name, why);
  };
  if (!run.ok()) return missing(std::string(run.status().message()));
  std::smatch match;
  if (!std::regex_search(run->output, match, std::regex(pattern)))
    return missing("does not tell its version");
  const std::string version = match[1];
  if (std::stoi(version) < least_major) {
    return missing("version " + version + "; " + std::to_string(least_major) +
                   " or later is needed");
  }
  return Ok(name, "version " + version);
}

Check CheckSpace(const std::string& name, const std::string& path, double needed_gib) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return Bad(name, path + " cannot be read");
  const double free_gib =
      static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize) / kGiB;
  char detail[160];
  std::snprintf(detail, sizeof detail, "%.1f GiB free in %s", free_gib, path.c_str());
  if (free_gib >= needed_gib) return Ok(name, detail);
  return Warn(name, std::string(detail) + "; weights and checkpoints may not fit");
}

Check CheckLoopback() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool ok = fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  if (fd >= 0) ::close(fd);
  return ok ? Ok("loopback ports", "can be bound")
            : Bad("loopback ports", "127.0.0.1 cannot be bound");
}

Check CheckCores() {
  const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  const std::string detail = std::to_string(cores) + " cores";
  return cores >= 2 ? Ok("processors", detail)
                    : Warn("processors", detail + "; generation and training will take turns");
}

Check CheckConfig(const std::string& run_dir) {
  const auto config = LoadConfig(ConfigPathOf(run_dir), {});
  if (!config.ok()) return Bad("configuration", std::string(config.status().message()));
  const auto valid = ValidateRun(*config);
  if (!valid.ok()) return Bad("model and data", std::string(valid.status().message()));
  return Ok("model and data", "tokenizer loads, every row is sound");
}

Check CheckLineage(const std::string& run_dir) {
  const auto records = Journal::Read(run_dir + "/journal.jsonl");
  if (!records.ok()) return Bad("journal", std::string(records.status().message()));
  const Lineage lineage = VerifyLineage(*records);
  if (!lineage.problems.empty()) {
    return Bad("journal",
               lineage.problems.front() +
                   (lineage.problems.size() > 1
                        ? " (and " + std::to_string(lineage.problems.size() - 1) + " more)"
                        : ""));
  }
  return Ok("journal", "whole to step " + std::to_string(lineage.last_step) + ": " +
                           std::to_string(lineage.trained_groups) + " groups trained, none twice");
}

const char* Symbol(Check::Result result) {
  switch (result) {
    case Check::Result::kOk:
      return "ok";
    case Check::Result::kWarning:
      return "warning";
    case Check::Result::kFailed:
      return "FAILED";
  }
  return "?";
}

}  // namespace

std::vector<Check> CheckMachine(const std::string& binary_dir) {
  std::vector<Check> checks;
  for (const char* name : {"trainer", "generator", "verifier"}) {
    checks.push_back(CheckBinary(binary_dir, std::string("tramontane-") + name));
  }
  checks.push_back(CheckSandbox(binary_dir));
  checks.push_back(CheckVerifierOnPath());
  checks.push_back(
      CheckProgram("redis-server", {"redis-server", "--version"}, "v=([0-9.]+)", 7, true));
  checks.push_back(
      CheckProgram("gnuplot", {"gnuplot", "--version"}, "gnuplot ([0-9.]+)", 5, false));
  checks.push_back(CheckSpace("shared memory", "/dev/shm", 0.06));
  checks.push_back(CheckSpace("disk", ".", 1));
  checks.push_back(CheckLoopback());
  checks.push_back(CheckCores());
  return checks;
}

std::vector<Check> CheckRun(const std::string& run_dir) {
  return {CheckConfig(run_dir), CheckLineage(run_dir)};
}

int DoctorCommand(const CommandContext& context, const std::string& run_dir) {
  std::vector<Check> checks = CheckMachine(context.binary_dir);
  if (!run_dir.empty()) {
    for (Check& check : CheckRun(run_dir)) checks.push_back(std::move(check));
  }
  std::string failed;
  Json out = Json::array();
  for (const Check& check : checks) {
    if (check.result == Check::Result::kFailed) {
      failed += (failed.empty() ? "" : "; ") + check.name + ": " + check.detail;
    }
    out.push_back(
        {{"check", check.name}, {"result", Symbol(check.result)}, {"detail", check.detail}});
    if (!context.json) {
      std::printf("%-8s %-30s %s\n", Symbol(check.result), check.name.c_str(),
                  check.detail.c_str());
    }
  }
  if (context.json) {
    Json document = {{"ok", failed.empty()}, {"checks", out}};
    if (!failed.empty())
      document.update(ErrorDocument("doctor", absl::FailedPreconditionError(failed)));
    PrintJson(document);
  }
  return failed.empty() ? 0 : 1;
}

}  // namespace tramontane
