#include "trainer/loop/waiting.h"

#include <cstdio>

#include "common/clock.h"
#include "common/log.h"

namespace tramontane {
namespace {

constexpr double kFirstNoticeS = 2, kNextNoticeS = 5;

std::string OneDecimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

}  // namespace

WaitNotice::WaitNotice(int64_t step, StateBoard& board, Events& events)
    : step_(step), board_(board), events_(events), next_s_(kFirstNoticeS) {}

double WaitNotice::seconds() const { return SecondsSince(start_); }

bool WaitNotice::StillWaiting(const std::string& what, const absl::Status& last) {
  const double waited = seconds();
  board_.Set(step_, "waiting", what, waited);
  if (waited < next_s_) return false;
  next_s_ = waited + kNextNoticeS;
  events_.Emit({{"event", "waiting"}, {"step", step_}, {"waiting_for", what}, {"seconds", waited}});
  if (last.ok()) {
    LogInfo("waiting", {{"for", what}, {"seconds", waited}});
  } else {
    LogInfo("waiting", {{"for", what}, {"seconds", waited}, {"last", last}});
  }
  return true;
}

std::string DescribeGroupWait(const BookCounts& counts, int64_t groups_per_step, int64_t dropped,
                              const QueueStats& stats, double redis_down_s) {
  if (redis_down_s > 0) return "redis, unavailable for " + OneDecimal(redis_down_s) + " s";
  std::string text = "groups (" + std::to_string(counts.ready) + " of " +
                     std::to_string(groups_per_step) + " ready, " + std::to_string(counts.running) +
                     " running";
  if (dropped > 0) text += ", " + std::to_string(dropped) + " dropped";
  if (stats.leased > 0) {
    text +=
        "; oldest lease " + OneDecimal(stats.oldest_lease_s) + " s by " + stats.oldest_lease_worker;
  } else if (stats.waiting > 0) {
    text += "; " + std::to_string(stats.waiting) + " unclaimed for " +
            OneDecimal(stats.oldest_waiting_s) + " s";
  }
  return text + ")";
}

}  // namespace tramontane
