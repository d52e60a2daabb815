#include "generator/session_store.h"

#include <utility>

#include "common/random_hex.h"
#include "common/status.h"

namespace tramontane {
namespace {

Counter SessionEnds(MetricsRegistry& metrics, const std::string& end) {
  return metrics.MakeCounter("tramontane_generator_session_ends_total", {{"end", end}});
}

}  // namespace

SessionStore::SessionStore(Options options, MetricsRegistry& metrics)
    : options_(std::move(options)),
      expired_(SessionEnds(metrics, "expired")),
      closed_(SessionEnds(metrics, "closed")),
      turns_(metrics.MakeCounter("tramontane_generator_session_turns_total")),
      rewrites_(metrics.MakeCounter("tramontane_generator_session_rewrites_total")),
      refused_(metrics.MakeCounter("tramontane_generator_sessions_refused_total")),
      open_(metrics.MakeGauge("tramontane_generator_sessions")) {
  metrics.MakeGauge("tramontane_generator_limit", {{"of", "sessions"}}).Set(options_.most_sessions);
}

absl::StatusOr<std::string> SessionStore::Open() {
  std::lock_guard lock(mutex_);
  Expire();
  if (sessions_.size() >= static_cast<size_t>(options_.most_sessions)) {
    refused_.Add();
    return absl::ResourceExhaustedError("session: " + std::to_string(sessions_.size()) +
                                        " are open, no more can be");
  }
  std::string id = RandomHex(16);
  Session& session = sessions_[id];
  session.busy = true;
  session.place = by_use_.insert(by_use_.end(), id);
  session.used = options_.now();
  open_.Set(static_cast<double>(sessions_.size()));
  return id;
}

absl::StatusOr<std::vector<int32_t>> SessionStore::Begin(const std::string& id) {
  std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(const auto found, Find(id));
  found->second.busy = true;
  Touch(found->second);
  return found->second.tokens;
}

void SessionStore::Commit(const std::string& id, std::vector<int32_t> tokens) {
  std::lock_guard lock(mutex_);
  Session& session = sessions_.at(id);
  session.tokens = std::move(tokens);
  session.busy = false;
  turns_.Add();
  Touch(session);
}

void SessionStore::Abandon(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto found = sessions_.find(id);
  found->second.busy = false;
  if (found->second.tokens.empty()) Forget(found);
}

absl::Status SessionStore::Close(const std::string& id) {
  std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(const auto found, Find(id));
  Forget(found);
  closed_.Add();
  return absl::OkStatus();
}

absl::StatusOr<SessionStore::Sessions::iterator> SessionStore::Find(const std::string& id) {
  Expire();
  const auto found = sessions_.find(id);
  if (found == sessions_.end())
    return absl::NotFoundError("session: " + id +
                               " is not known here; it was closed, has expired, or never was");
  if (found->second.busy)
    return absl::AbortedError("session: another turn of " + id + " is under way");
  return found;
}

void SessionStore::Touch(Session& session) {
  by_use_.splice(by_use_.end(), by_use_, session.place);
  session.used = options_.now();
}

void SessionStore::Forget(Sessions::iterator at) {
  by_use_.erase(at->second.place);
  sessions_.erase(at);
  open_.Set(static_cast<double>(sessions_.size()));
}

// Turns under way are bounded by their requests' own deadlines.
void SessionStore::Expire() {
  const Time oldest = options_.now() - std::chrono::microseconds(
                                           static_cast<int64_t>(options_.idle_timeout_s * 1e6));
  for (auto at = by_use_.begin(); at != by_use_.end();) {
    const auto session = sessions_.find(*at++);
    if (session->second.used > oldest) return;
    if (session->second.busy) continue;
    Forget(session);
    expired_.Add();
  }
}

absl::StatusOr<std::shared_ptr<SessionTurn>> SessionTurn::Take(SessionStore& store,
                                                               const std::string& named) {
  std::string id = named;
  std::vector<int32_t> before;
  if (named == "new") {
    ASSIGN_OR_RETURN(id, store.Open());
  } else {
    ASSIGN_OR_RETURN(before, store.Begin(named));
  }
  return std::shared_ptr<SessionTurn>(new SessionTurn(store, std::move(id), std::move(before)));
}

void SessionTurn::Commit(std::vector<int32_t> prompt, const std::vector<int32_t>& response) {
  if (store_ == nullptr) return;
  prompt.insert(prompt.end(), response.begin(), response.end());
  std::exchange(store_, nullptr)->Commit(id_, std::move(prompt));
}

void SessionTurn::GiveUp() {
  if (store_ != nullptr) std::exchange(store_, nullptr)->Abandon(id_);
}

}  // namespace tramontane
