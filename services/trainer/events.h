// Progress as JSON lines on standard output, which the supervisor renders. Any thread.
#pragma once

#include <iostream>
#include <mutex>

#include "common/rollout.h"

namespace tramontane {

class EventLines {
 public:
  void Emit(const Json& event) {
    const std::string line = event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    std::lock_guard lock(mutex_);
    std::cout << line << std::flush;
  }

 private:
  std::mutex mutex_;
};

}  // namespace tramontane
