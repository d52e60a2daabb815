// Where tensor code ends and Status begins: runs `f` and turns what LibTorch throws into a Status.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <utility>

#include "absl/status/status.h"

namespace tramontane {

template <class F>
absl::Status GuardTorch(F&& f) try {
  std::forward<F>(f)();
  return absl::OkStatus();
} catch (const c10::OutOfMemoryError& error) {
  return absl::ResourceExhaustedError(error.what_without_backtrace());
} catch (const c10::Error& error) {
  return absl::InternalError(error.what_without_backtrace());
} catch (const std::exception& error) {
  return absl::InternalError(error.what());
}

}  // namespace tramontane
