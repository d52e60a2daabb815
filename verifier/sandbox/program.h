// Running somebody else's program: what is asked, what comes back, and who can be asked. The answer
// is made of captured bytes; whether they are right is decided by the asker, who alone knows what
// was expected.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "verifier/sandbox/file_tree.h"

namespace tramontane {

inline constexpr size_t kMaxSourceBytes = 256 << 10;

struct ProgramSpec {
  std::string language;  // "python" | "cpp"
  std::string source;
  // Empty: the program is run as it is and reads standard input. Otherwise `input` is a JSON array
  // of arguments, this function or method of class Solution is called with them, and
  // the output is its result as JSON; what the program prints goes to the error stream.
  std::string function;
  // There before the program starts, in its working folder, where it looks for modules first.
  // "python" alone. The folder may be read-only.
  FileTree files = {};
};

struct RunLimits {
  double time_s = 4;  // of processor time; twice that and a second of wall time
  int64_t memory_bytes = int64_t{512} << 20;
  int64_t output_bytes = int64_t{1} << 20;
};

enum class RunEnd {
  kExited,     // code: exit status
  kSignalled,  // code: signal number
  kTimeLimit,
  kOutputLimit,
  kCompileError,  // error: the compiler's words
};
const char* ToString(RunEnd end);  // "exited", "signalled", "time_limit", …

struct ProgramRun {
  RunEnd end = RunEnd::kExited;
  int code = 0;
  std::string output = "", error = "";  // the latter shortened to a few kilobytes
  double cpu_seconds = 0, wall_seconds = 0;
  double starved_seconds = 0;  // of wall_seconds: it could have run and the machine was busy
  int64_t peak_memory_bytes = 0;
};

// What stands between a program and the machine (docs/sandbox.md).
struct SandboxDescription {
  std::string tier;                  // "A" | "B"
  std::string runtime_class;         // of the container around it, as its operator says; tier A
  std::vector<std::string> layers;   // in force, "landlock:7"
  std::vector<std::string> missing;  // those that are not, with the reason where it is known
  std::vector<std::string> languages;
  std::vector<std::string> runtimes;  // what runs them, "python 3.11.2"
  int32_t programs = 0;               // at once
  RunLimits most;                     // that may be asked for
  bool takes_files = false;           // ProgramSpec::files
};

// Two are there: LocalRunner (jails of this process) and SandboxClient (a service).
class ProgramRunner {
 public:
  virtual ~ProgramRunner() = default;
  // Blocks; any thread. InvalidArgument: the question is at fault (unknown language, limits beyond
  // the most). Any other error is the sandbox's fault and says nothing about the program.
  virtual absl::StatusOr<ProgramRun> Run(const ProgramSpec& program, std::string_view input,
                                         const RunLimits& limits) = 0;
  virtual absl::StatusOr<SandboxDescription> Describe() = 0;
};

}  // namespace tramontane
