// Conversations that go on: what has been said in each, token by token, between two requests. Their
// keys and values stay in the engine's prefix cache, as the newest there. Torch-free; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/metrics.h"

namespace tramontane {

class SessionStore {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Options {
    int32_t most_sessions = 256;  // beyond it ResourceExhausted
    double idle_timeout_s = 600;  // one that nobody used for so long is forgotten
    std::function<Time()> now = [] { return std::chrono::steady_clock::now(); };
  };
  // `metrics` outlives the store.
  SessionStore(Options options, MetricsRegistry& metrics);

  // A new, empty one, taken for its first turn. ResourceExhausted when all are in use or young.
  absl::StatusOr<std::string> Open();
  // Takes a session for one turn: its tokens so far. NotFound: unknown, closed or expired.
  // Aborted: another turn of it is under way.
  absl::StatusOr<std::vector<int32_t>> Begin(const std::string& id);
  // A turn does not go on from the tokens of the earlier ones: it tells them anew.
  void ToldAnew() { rewrites_.Add(); }
  // The turn is over, and these are all of its tokens now.
  void Commit(const std::string& id, std::vector<int32_t> tokens);
  // The turn failed: the session is what it was; one that never had a turn is gone.
  void Abandon(const std::string& id);
  // NotFound; Aborted while a turn is under way.
  absl::Status Close(const std::string& id);

 private:
  struct Session {
    std::vector<int32_t> tokens;
    bool busy = false;
    Time used;
    std::list<std::string>::iterator place;  // in by_use_
  };
  using Sessions = std::map<std::string, Session>;

  absl::StatusOr<Sessions::iterator> Find(const std::string& id);
  void Touch(Session& session);
  void Forget(Sessions::iterator at);
  void Expire();

  const Options options_;
  Counter expired_, closed_, turns_, rewrites_, refused_;
  Gauge open_;
  std::mutex mutex_;
  // All guarded by mutex_.
  Sessions sessions_;
  std::list<std::string> by_use_;  // the one used longest ago first
};

// One turn of a session, from when it is taken until it is committed, or given up with this object.
// One thread at a time.
class SessionTurn {
 public:
  // `named`: "new", or a session's id. Errors as Open() and Begin(). `store` outlives the turn.
  static absl::StatusOr<std::shared_ptr<SessionTurn>> Take(SessionStore& store,
                                                           const std::string& named);
  ~SessionTurn() { GiveUp(); }
  SessionTurn(const SessionTurn&) = delete;
  SessionTurn& operator=(const SessionTurn&) = delete;

  const std::string& id() const { return id_; }
  const std::vector<int32_t>& before() const { return before_; }  // said in earlier turns
  void ToldAnew() { store_->ToldAnew(); }                         // before Commit()
  // The session is now `prompt`, all of what was asked with, and `response`.
  void Commit(std::vector<int32_t> prompt, const std::vector<int32_t>& response);
  void GiveUp();  // nothing happens after Commit()

 private:
  SessionTurn(SessionStore& store, std::string id, std::vector<int32_t> before)
      : store_(&store), id_(std::move(id)), before_(std::move(before)) {}

  SessionStore* store_;  // null: it is over
  const std::string id_;
  const std::vector<int32_t> before_;
};

}  // namespace tramontane
