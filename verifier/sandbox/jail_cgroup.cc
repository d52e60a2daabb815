#include "verifier/sandbox/jail_cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "verifier/sandbox/jail_wire.h"

namespace tramontane {
namespace {

constexpr char kPrefix[] = "tramontane-jail-";

struct Hierarchy {
  std::string folder;  // this process's own group
  bool pids = false, memory = false, version2 = false;
};

// Mount point of the cgroup file system whose options hold `controller`; of version 2 when empty.
std::string MountPoint(const std::string& controller) {
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string device, point, type, options;
    fields >> device >> point >> type >> options;
    if (controller.empty()
            ? type == "cgroup2"
            : type == "cgroup" &&
                  ("," + options + ",").find("," + controller + ",") != std::string::npos) {
      return point;
    }
  }
  return "";
}

// "8:pids:/a/b" or "0::/a/b" lines of /proc/self/cgroup.
std::vector<Hierarchy> OwnHierarchies() {
  std::vector<Hierarchy> found;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    Hierarchy hierarchy;
    hierarchy.version2 = controllers == ",,";
    hierarchy.pids = hierarchy.version2 || controllers.find(",pids,") != controllers.npos;
    hierarchy.memory = hierarchy.version2 || controllers.find(",memory,") != controllers.npos;
    if (!hierarchy.pids && !hierarchy.memory) continue;
    const std::string point =
        MountPoint(hierarchy.version2 ? "" : (hierarchy.pids ? "pids" : "memory"));
    if (point.empty()) continue;
    hierarchy.folder = point + line.substr(second + 1);
    if (hierarchy.folder.back() == '/') hierarchy.folder.pop_back();
    found.push_back(hierarchy);
  }
  return found;
}

bool Write(const std::string& path, const std::string& text) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd.valid() &&
         write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

}  // namespace

JailCgroup::JailCgroup(int slot, int64_t max_tasks, int64_t max_memory_bytes) {
  const std::string name = kPrefix + std::to_string(getpid()) + "-" + std::to_string(slot);
  for (const Hierarchy& own : OwnHierarchies()) {
    // Works at the root of a delegated tree alone; where it does not, the files below are missing.
    if (own.version2) Write(own.folder + "/cgroup.subtree_control", "+pids +memory");
    const std::string folder = own.folder + "/" + name;
    if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) continue;
    uint32_t layers = 0;
    if (own.pids && Write(folder + "/pids.max", std::to_string(max_tasks))) {
      layers |= kLayerPidsCgroup;
    }
    const std::string memory = own.version2 ? "/memory.max" : "/memory.limit_in_bytes";
    if (own.memory && Write(folder + memory, std::to_string(max_memory_bytes))) {
      layers |= kLayerMemoryCgroup;
    }
    UniqueFd procs(open((folder + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (layers == 0 || !procs.valid()) {
      rmdir(folder.c_str());
      continue;
    }
    layers_ |= layers;
    folders_.push_back(folder);
    procs_files_.push_back(std::move(procs));
  }
}

JailCgroup::~JailCgroup() {
  procs_files_.clear();
  for (const std::string& folder : folders_) {
    // The kernel counts a process out a moment after its parent has seen it die.
    for (int tries = 0; tries < 100 && rmdir(folder.c_str()) != 0 && errno == EBUSY; ++tries) {
      usleep(10'000);
    }
  }
}

void JailCgroup::SweepStale() {
  std::error_code error;
  for (const Hierarchy& own : OwnHierarchies()) {
    for (const auto& entry : std::filesystem::directory_iterator(own.folder, error)) {
      const std::string name = entry.path().filename();
      if (!name.starts_with(kPrefix)) continue;
      const pid_t owner = static_cast<pid_t>(std::atol(name.c_str() + sizeof kPrefix - 1));
      if (owner > 0 && kill(owner, 0) != 0 && errno == ESRCH) rmdir(entry.path().c_str());
    }
  }
}

}  // namespace tramontane
