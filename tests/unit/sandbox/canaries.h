// Things outside the jail that a program would change if it got out, and a look at whether it did.
#pragma once

#include <string>

#include "common/unique_fd.h"
#include "tests/unit/sandbox/attacks.h"

namespace tramontane {

class Canaries {
 public:
  Canaries();
  ~Canaries();
  Canaries(const Canaries&) = delete;
  Canaries& operator=(const Canaries&) = delete;

  const Targets& targets() const { return targets_; }
  // What has been touched since the beginning; empty: nothing.
  std::string Touched() const;

 private:
  Targets targets_;
  UniqueFd tcp_, udp_, unix_, abstract_;
};

// Processes under `pid`, in all generations.
int Descendants(int pid);

}  // namespace tramontane
