// One jail: a `tramontane-jail` process that runs one untrusted program at a time. The calling side
// trusts nothing that comes out of it but the jail program's own reports: standard output and error
// are read with bounds, results are taken from files the caller made.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "verifier/sandbox/jail_cgroup.h"
#include "verifier/sandbox/jail_wire.h"

namespace tramontane {

struct JailOptions {
  std::string program;  // path of tramontane-jail
  bool namespaces = true;
  std::vector<std::string> readonly_paths;
  std::string header_dir;
  int slot = 0;  // tells the jails of one process apart
  int64_t max_memory_bytes = int64_t{2} << 30;
};

struct JailTask {
  JailProfile profile = JailProfile::kProgram;
  std::vector<std::string> argv;
  std::string_view input;  // standard input
  int program_fd = -1;     // given to the program as descriptor 3, or run; -1: none
  bool executes_program_fd = false;
  int tree_fd = -1;  // kProgram: a packed file tree (file_tree.h) to start in; -1: none
  double cpu_s = 4, wall_s = 9;
  uint64_t memory_bytes = uint64_t{512} << 20;
  uint64_t scratch_bytes = uint64_t{16} << 20;
  uint64_t output_bytes = uint64_t{1} << 20;  // more is the end of the run
  uint64_t error_bytes = 16 << 10;            // more is read and forgotten
};

struct JailRun {
  JailResult result{};
  std::string output, error;
  bool output_overflow = false;  // ended for that reason
  UniqueFd compiled;             // kCompiler: the result, sealed, when result.result_bytes > 0
};

// A file without a name whose content nobody can change any more. Errors: ResourceExhausted.
absl::StatusOr<UniqueFd> SealedFile(std::string_view bytes);

// Belongs to one thread at a time.
class Jail {
 public:
  // Starts the jail program and waits for it to settle. FailedPrecondition: it says that the
  // machine does not allow what was asked for; NotFound: no such program.
  static absl::StatusOr<std::unique_ptr<Jail>> Start(const JailOptions& options);
  ~Jail();  // ends the process, removes control groups and scratch folder
  Jail(const Jail&) = delete;
  Jail& operator=(const Jail&) = delete;

  // Blocks at most for wall_s and a few seconds. Unavailable: the jail itself failed and must be
  // replaced; InvalidArgument: arguments too long. What the program does wrong is a JailRun.
  absl::StatusOr<JailRun> Run(const JailTask& task);

  uint32_t layers() const { return layers_; }
  int landlock_abi() const { return landlock_abi_; }
  pid_t pid() const { return pid_; }
  const JailCgroup& cgroup() const { return cgroup_; }

 private:
  explicit Jail(const JailOptions& options);

  absl::Status Spawn(const JailOptions& options);
  absl::Status ReadHello();
  absl::Status Send(const JailTask& task, int input, int output, int error, int extra);
  absl::Status Converse(const JailTask& task, int output, int error, JailRun& run);

  JailCgroup cgroup_;
  std::string box_;  // scratch folder of compilers without namespaces
  UniqueFd socket_, pid_fd_;
  pid_t pid_ = -1;
  uint32_t layers_ = 0;
  int landlock_abi_ = 0;
};

}  // namespace tramontane
