// SymPy in a child process, asked whether two expressions are equal. The child is an interpreter
// that somebody installed (deps/make-python-verifier.sh does); it reads trees as JSON, never text to
// evaluate, and is killed when a question takes too long or too much memory. It is started when it
// is first asked.
#pragma once

#include <sys/types.h>

#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "common/unique_fd.h"

namespace tramontane {

struct AlgebraOptions {
  std::string python;                              // of an environment that has SymPy
  std::string version;                             // of SymPy
  double start_timeout_s = 30;                     // importing it takes a second
  int64_t memory_bytes = int64_t{1} << 30;         // address space of the child
};

// Where the Python verifier's environment is (TRAMONTANE_PYTHON_VERIFIER, else in the user's cache),
// and which SymPy it has. Starts nothing. NotFound says what is missing and how to get it.
absl::StatusOr<AlgebraOptions> FindAlgebra();

// Any thread; one question at a time.
class Algebra {
 public:
  // `metrics` outlives it.
  Algebra(AlgebraOptions options, MetricsRegistry& metrics);
  ~Algebra();  // ends the child
  Algebra(const Algebra&) = delete;
  Algebra& operator=(const Algebra&) = delete;

  // Whether two trees (verifier/math/tree_text.h) are equal. Nothing: it cannot tell, or not within
  // `timeout_s` of processor time (of five times that and five seconds on a busy machine).
  std::optional<bool> Same(const std::string& gold, const std::string& answer, double timeout_s);

  const std::string& version() const { return options_.version; }
  std::optional<pid_t> pid() const;  // of the child, if there is one

 private:
  struct Child {
    pid_t pid = -1;
    UniqueFd socket;
  };

  absl::Status Start();
  void End();
  // The child's next line. DeadlineExceeded, Unavailable (it is gone, or says too much).
  absl::StatusOr<std::string> ReadLine(double cpu_s, double wall_s);
  absl::StatusOr<std::string> Ask(const std::string& question, double timeout_s);

  const AlgebraOptions options_;
  Counter equal_, unequal_, undecided_, killed_;
  mutable std::mutex mutex_;
  std::optional<Child> child_;
};

}  // namespace tramontane
