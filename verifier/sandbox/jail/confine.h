// What the jail program does to itself before the first order: gives up its user, and where the
// kernel allows it moves into namespaces whose root shows nothing but read-only system folders.
// Single-threaded.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tramontane {

struct JailSettings {
  bool namespaces = true;
  uid_t uid = 0;                      // taken when started as root; 0: keep
  std::vector<std::string> readonly;  // absolute paths that programs may read and execute
  std::string header_dir;             // precompiled headers, shown at the same path; may be empty
  std::string box;  // scratch folder of compilers where there is no mount namespace
};

// A user other than root when there is a choice, no new privileges, no supplementary groups.
// True when the process now has a user of its own.
bool DropUser(const JailSettings& settings);

// Enters user, mount, network, IPC and UTS namespaces with a root of their own: `readonly`,
// /dev/{null,zero,urandom} and an empty /tmp, on which each run mounts its scratch folder. False:
// `error` names the step that the kernel refused, and the process is of no further use.
bool EnterNamespaces(const JailSettings& settings, std::string& error);

// A fresh, empty, bounded folder at /tmp. In a mount namespace of the run's own.
bool MountScratch(uint64_t bytes);

}  // namespace tramontane
