// Landlock (Linux 5.13+) by its three system calls: what a program may open, and from newer kernels
// on whom it may connect to or signal. Single-threaded; to be called before exec.
#pragma once

#include <string>
#include <vector>

namespace tramontane {

// Version of the running kernel's interface; 0: there is none.
int LandlockAbi();

struct LandlockPaths {
  std::vector<std::string> read;     // and execute, everything beneath
  std::vector<std::string> write;    // plain files and folders beneath: make, write, remove
  std::vector<std::string> devices;  // single files: read and write
};

// Everything else on the file system is out of reach from now on, TCP is refused (ABI 4), devices
// take no ioctl (5), abstract sockets and signals stay within (6). What this kernel's ABI does not
// know is left to seccomp. Paths that do not exist are skipped. False: errno says why.
bool RestrictWithLandlock(int abi, const LandlockPaths& paths);

}  // namespace tramontane
