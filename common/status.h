// Status plumbing shared by every library. Errors cross library boundaries as absl::Status;
// exceptions stay inside tensor code.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define TRAMONTANE_CONCAT_INNER(a, b) a##b
#define TRAMONTANE_CONCAT(a, b) TRAMONTANE_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expr)                              \
  do {                                                     \
    if (absl::Status status_ = (expr); !status_.ok()) {    \
      return status_;                                      \
    }                                                      \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(TRAMONTANE_CONCAT(status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                          \
  if (!tmp.ok()) return tmp.status();         \
  lhs = std::move(tmp).value()

namespace tramontane {

// Prefixes a message with where it happened ("config.yaml: trainer.threads: …"); code is kept.
inline absl::Status Annotate(const absl::Status& status, const std::string& where) {
  if (status.ok()) return status;
  return absl::Status(status.code(), where + ": " + std::string(status.message()));
}

}  // namespace tramontane
