#include "services/verifier/dead_letters.h"

#include <utility>

#include "common/log.h"

namespace tramontane {
namespace {

constexpr size_t kKept = 16;

}  // namespace

DeadLetters::DeadLetters(std::string verifier, MetricsRegistry& metrics)
    : verifier_(std::move(verifier)),
      counter_(metrics.MakeCounter("tramontane_verifier_client_dead_letters_total",
                                   {{"verifier", verifier_}})) {}

void DeadLetters::Add(const VerifyJob& job, const std::string& reason) {
  const std::string& id = job.request.request_id();
  LogWarn("verifier_dead_letter", {{"verifier", verifier_},
                                   {"request", id},
                                   {"attempts", job.attempts},
                                   {"outages", job.outages + job.breaks + job.crashes},
                                   {"refusals", job.refusals},
                                   {"reason", reason}});
  ++total_;
  counter_.Add();
  newest_.push_back({{"request", id}, {"tries", job.tries()}, {"reason", reason}});
  if (newest_.size() > kKept) newest_.pop_front();
}

Json DeadLetters::State() const { return {{"total", total_}, {"newest", newest_}}; }

}  // namespace tramontane
