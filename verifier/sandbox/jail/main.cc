// tramontane-jail: runs one untrusted program after the other for the process that started it
// (../jail.h). Not for use by hand. Arguments are key=value:
//
//   namespaces=0|1   uid=N   readonly=PATH (repeated)   headers=PATH   box=PATH   cgroups=N
//
// The socket to the pool is descriptor 3, the cgroup files follow. The environment is empty.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "verifier/sandbox/jail/confine.h"
#include "verifier/sandbox/jail/landlock.h"
#include "verifier/sandbox/jail/warden.h"

namespace tramontane {
namespace {

struct Arguments {
  JailSettings settings;
  int cgroups = 0;
};

bool Parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const size_t equals = text.find('=');
    if (equals == text.npos) return false;
    const std::string key = text.substr(0, equals), value = text.substr(equals + 1);
    if (key == "namespaces") {
      arguments.settings.namespaces = value == "1";
    } else if (key == "uid") {
      arguments.settings.uid = static_cast<uid_t>(std::strtoul(value.c_str(), nullptr, 10));
    } else if (key == "readonly") {
      arguments.settings.readonly.push_back(value);
    } else if (key == "headers") {
      arguments.settings.header_dir = value;
    } else if (key == "box") {
      arguments.settings.box = value;
    } else if (key == "cgroups") {
      arguments.cgroups = std::atoi(value.c_str());
    } else {
      return false;
    }
  }
  return true;
}

// Whether a limit on processes would count this jail's alone.
bool CanLimitProcesses(bool namespaces, bool took_own_uid) { return namespaces || took_own_uid; }

bool Settle(const JailSettings& settings, Settled& settled, JailHello& hello, std::string& error) {
  settled.settings = settings;
  const bool was_root = getuid() == 0;
  if (DropUser(settings)) hello.layers |= kLayerOwnUid;
  settled.proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (settings.namespaces) {
    if (!EnterNamespaces(settings, error)) return false;
    hello.layers |= kLayerUserNamespace | kLayerPidNamespace | kLayerMountNamespace |
                    kLayerNetworkNamespace | kLayerIpcNamespace;
  }
  if (CanLimitProcesses(settings.namespaces, was_root && getuid() != 0)) {
    settled.limits_processes = true;
    hello.layers |= kLayerProcessLimit;
  }
  for (const JailProfile profile : {JailProfile::kProgram, JailProfile::kCompiler}) {
    if (!SeccompFilter::Compile(profile, settled.filters[static_cast<int>(profile)], error)) {
      return false;
    }
  }
  hello.layers |= kLayerSeccomp | kLayerRlimits;
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) hello.layers |= kLayerNoNewPrivs;
  settled.landlock_abi = hello.landlock_abi = LandlockAbi();
  if (settled.landlock_abi > 0) hello.layers |= kLayerLandlock;
  return true;
}

int Main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, arguments)) {
    fprintf(stderr, "tramontane-jail is started by tramontane-verifier and tramontane-sandbox\n");
    return 2;
  }
  syscall(SYS_close_range, kJailCgroupFd + arguments.cgroups, ~0u, 0);
  std::vector<int> cgroups;
  for (int i = 0; i < arguments.cgroups; ++i) {
    cgroups.push_back(kJailCgroupFd + i);
    fcntl(cgroups.back(), F_SETFD, FD_CLOEXEC);
  }
  fcntl(kJailSocketFd, F_SETFD, FD_CLOEXEC);
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // orphans of a run come here
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);

  JailHello hello{};
  hello.version = kJailWireVersion;
  Settled settled;
  std::string error;
  hello.ready = Settle(arguments.settings, settled, hello, error) ? 1 : 0;
  snprintf(hello.message, sizeof hello.message, "%s", error.c_str());
  if (send(kJailSocketFd, &hello, sizeof hello, MSG_NOSIGNAL) < 0 || !hello.ready) return 1;
  ServeOrders(settled, kJailSocketFd, cgroups);
  return 0;
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
