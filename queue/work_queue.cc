#include "queue/work_queue.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <utility>

#include "common/log.h"
#include "common/status.h"
#include "functions.h"
#include "queue/redis.h"

namespace tramontane {
namespace {

constexpr size_t kMaxReasonBytes = 500;  // functions.lua: MAX_FIELD_BYTES

const char* EndStateName(Terminal terminal) {
  switch (terminal) {
    case Terminal::kTrained: return "trained";
    case Terminal::kEvaluated: return "evaluated";
    case Terminal::kStale: return "stale";
    case Terminal::kDropped: return "dropped";
    case Terminal::kDead: return "dead_lettered";  // "dead" is the live state before it
  }
  return "dropped";
}

absl::Status Unexpected(const std::string& what) {
  return absl::InternalError("redis: unexpected reply to " + what);
}

// One stream entry as XREAD and XRANGE give it: [id, [field, value, …]].
struct Entry {
  std::string id;
  std::map<std::string, std::string> fields;
};

absl::StatusOr<std::vector<Entry>> ParseEntries(const RedisReply& reply) {
  std::vector<Entry> entries;
  for (const RedisReply& item : reply.array) {
    if (item.array.size() != 2 || item.array[1].array.size() % 2 != 0) return Unexpected("a stream read");
    Entry entry;
    entry.id = item.array[0].string;
    const std::vector<RedisReply>& flat = item.array[1].array;
    for (size_t i = 0; i + 1 < flat.size(); i += 2) entry.fields[flat[i].string] = flat[i + 1].string;
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

struct WorkQueue::Impl {
  std::unique_ptr<RedisConnection> redis;
  double command_timeout_s = 5;
  // In the order that functions.lua expects.
  std::string eval, train, completed, dead, state, meta, ended;
  std::string last_completed = "0-0";
  std::string nonce_prefix;
  uint64_t claims = 0;      // claims answered; numbers the nonces

  absl::Status Load();
  absl::StatusOr<RedisReply> Call(const std::string& function, std::vector<std::string> args);
  absl::Status CallOk(const std::string& function, std::vector<std::string> args);
};

absl::Status WorkQueue::Impl::Load() {
  return redis->Command({"FUNCTION", "LOAD", "REPLACE", kQueueFunctions}).status();
}

absl::StatusOr<RedisReply> WorkQueue::Impl::Call(const std::string& function,
                                                 std::vector<std::string> args) {
  std::vector<std::string> argv = {"FCALL", "tramontane_" + function, "7", eval, train, completed,
                                   dead,    state,                    meta, ended};
  argv.insert(argv.end(), std::make_move_iterator(args.begin()), std::make_move_iterator(args.end()));
  absl::StatusOr<RedisReply> reply = redis->Command(argv);
  if (absl::IsNotFound(reply.status())) {
    // Redis came back empty: the library is lost with the data.
    LogWarn("queue_functions_reloaded", {{"function", function}});
    RETURN_IF_ERROR(Load());
    reply = redis->Command(argv);
  }
  return reply;
}

absl::Status WorkQueue::Impl::CallOk(const std::string& function, std::vector<std::string> args) {
  return Call(function, std::move(args)).status();
}

WorkQueue::WorkQueue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WorkQueue::~WorkQueue() = default;

absl::StatusOr<std::unique_ptr<WorkQueue>> WorkQueue::Connect(const RedisSection& redis,
                                                              const std::string& run_id) {
  auto impl = std::make_unique<Impl>();
  ASSIGN_OR_RETURN(impl->redis, RedisConnection::Create(redis.url, redis.command_timeout_s));
  impl->command_timeout_s = redis.command_timeout_s;
  const std::string prefix = "{tramontane:" + run_id + "}:";
  impl->eval = prefix + "eval";
  impl->train = prefix + "train";
  impl->completed = prefix + "completed";
  impl->dead = prefix + "dead";
  impl->state = prefix + "state";
  impl->meta = prefix + "meta";
  impl->ended = prefix + "ended";
  std::random_device entropy;
  impl->nonce_prefix = std::to_string(::getpid()) + "." + std::to_string(entropy()) + "." +
                       std::to_string(entropy()) + ".";
  RETURN_IF_ERROR(impl->Load());
  return std::unique_ptr<WorkQueue>(new WorkQueue(std::move(impl)));
}

absl::Status WorkQueue::Reset() { return impl_->CallOk("reset", {}); }

absl::StatusOr<int64_t> WorkQueue::Fence(int64_t at_least) {
  ASSIGN_OR_RETURN(RedisReply reply, impl_->Call("fence", {std::to_string(at_least)}));
  return reply.integer;
}

absl::Status WorkQueue::Restore(int64_t epoch) {
  return impl_->CallOk("restore", {std::to_string(epoch)});
}

absl::StatusOr<AdmitResult> WorkQueue::Admit(const std::string& gid, const std::string& blob,
                                             Purpose purpose, int64_t epoch, int64_t high_water) {
  absl::StatusOr<RedisReply> reply =
      impl_->Call("admit", {std::to_string(epoch), gid, blob, ToString(purpose), std::to_string(high_water)});
  if (absl::IsAborted(reply.status())) return AdmitResult::kFenced;
  if (absl::IsFailedPrecondition(reply.status())) return AdmitResult::kForgotten;
  if (!reply.ok()) return reply.status();
  if (reply->string == "ADMITTED") return AdmitResult::kAdmitted;
  if (reply->string == "KNOWN") return AdmitResult::kKnown;
  if (reply->string == "BUSY") return AdmitResult::kBusy;
  if (reply->string == "ENDED") return AdmitResult::kEnded;
  return Unexpected("admit");
}

absl::StatusOr<std::vector<CompletedGroup>> WorkQueue::TakeCompleted(int max_groups, int block_ms) {
  std::vector<std::string> argv = {"XREAD", "COUNT", std::to_string(max_groups)};
  if (block_ms > 0) argv.insert(argv.end(), {"BLOCK", std::to_string(block_ms)});
  argv.insert(argv.end(), {"STREAMS", impl_->completed, impl_->last_completed});
  ASSIGN_OR_RETURN(RedisReply reply,
                   impl_->redis->Command(argv, impl_->command_timeout_s + std::max(block_ms, 0) / 1e3));
  std::vector<CompletedGroup> groups;
  if (reply.kind == RedisReply::Kind::kNil) return groups;
  if (reply.array.size() != 1 || reply.array[0].array.size() != 2) return Unexpected("XREAD");
  ASSIGN_OR_RETURN(std::vector<Entry> entries, ParseEntries(reply.array[0].array[1]));
  for (Entry& entry : entries) {
    impl_->last_completed = entry.id;
    groups.push_back({std::move(entry.fields["gid"]), std::move(entry.fields["blob"]), std::move(entry.id)});
  }
  return groups;
}

void WorkQueue::RewindCompleted() { impl_->last_completed = "0-0"; }

absl::Status WorkQueue::Retire(const std::vector<std::string>& gids, Terminal terminal, int64_t epoch) {
  constexpr size_t kBatch = 512;  // bounds the time that one call holds Redis
  for (size_t begin = 0; begin < gids.size(); begin += kBatch) {
    std::vector<std::string> args = {std::to_string(epoch), EndStateName(terminal)};
    args.insert(args.end(), gids.begin() + begin, gids.begin() + std::min(gids.size(), begin + kBatch));
    RETURN_IF_ERROR(impl_->CallOk("retire", std::move(args)));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> WorkQueue::Reap(double lease_s, int max_deliveries) {
  ASSIGN_OR_RETURN(RedisReply reply,
                   impl_->Call("reap", {std::to_string(static_cast<int64_t>(lease_s * 1000)),
                                        std::to_string(max_deliveries)}));
  return reply.integer;
}

absl::StatusOr<std::vector<DeadGroup>> WorkQueue::ListDead(int max_groups) {
  ASSIGN_OR_RETURN(RedisReply reply, impl_->redis->Command({"XRANGE", impl_->dead, "-", "+", "COUNT",
                                                            std::to_string(max_groups)}));
  ASSIGN_OR_RETURN(std::vector<Entry> entries, ParseEntries(reply));
  std::vector<DeadGroup> groups;
  for (Entry& entry : entries) {
    groups.push_back({std::move(entry.fields["gid"]), std::move(entry.fields["blob"]),
                      std::move(entry.fields["reason"]), std::move(entry.id)});
  }
  return groups;
}

absl::StatusOr<std::vector<UnretiredGroup>> WorkQueue::ListUnretired() {
  ASSIGN_OR_RETURN(RedisReply reply, impl_->Call("live", {}));
  std::vector<UnretiredGroup> groups;
  for (size_t i = 0; i + 2 < reply.array.size(); i += 3) {
    groups.push_back({std::move(reply.array[i].string), std::move(reply.array[i + 2].string),
                      reply.array[i + 1].string == "completed"});
  }
  return groups;
}

absl::StatusOr<std::optional<Lease>> WorkQueue::Claim(const std::string& worker, int block_ms) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(std::max(block_ms, 0));
  while (true) {
    // The nonce stays the same until an answer arrives.
    ASSIGN_OR_RETURN(RedisReply reply,
                     impl_->Call("claim", {worker, impl_->nonce_prefix + std::to_string(impl_->claims)}));
    ++impl_->claims;
    if (reply.array.size() == 4) {
      Lease lease;
      lease.gid = std::move(reply.array[0].string);
      lease.blob = std::move(reply.array[1].string);
      lease.entry_id = std::move(reply.array[2].string);
      lease.delivery = reply.array[3].integer;
      lease.worker = worker;
      return lease;
    }
    if (reply.array.size() != 2) return Unexpected("claim");
    const int64_t left_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left_ms <= 0) return std::nullopt;
    // Anything added after the ids that the claim saw wakes this read: no entry is missed.
    ASSIGN_OR_RETURN(RedisReply added,
                     impl_->redis->Command({"XREAD", "COUNT", "1", "BLOCK", std::to_string(left_ms),
                                            "STREAMS", impl_->eval, impl_->train, reply.array[0].string,
                                            reply.array[1].string},
                                           impl_->command_timeout_s + left_ms / 1e3));
    if (added.kind == RedisReply::Kind::kNil) return std::nullopt;
  }
}

absl::Status WorkQueue::Renew(const Lease& lease) {
  return impl_->CallOk("renew", {lease.gid, std::to_string(lease.delivery), lease.worker});
}

absl::Status WorkQueue::Complete(const Lease& lease, const std::string& blob) {
  return impl_->CallOk("complete", {lease.gid, std::to_string(lease.delivery), lease.worker, blob});
}

absl::Status WorkQueue::Release(const Lease& lease) {
  return impl_->CallOk("release", {lease.gid, std::to_string(lease.delivery), lease.worker});
}

absl::Status WorkQueue::Fail(const Lease& lease, const std::string& reason, int max_deliveries) {
  return impl_->CallOk("fail", {lease.gid, std::to_string(lease.delivery), lease.worker,
                                reason.substr(0, kMaxReasonBytes), std::to_string(max_deliveries)});
}

absl::StatusOr<QueueStats> WorkQueue::Stats() {
  ASSIGN_OR_RETURN(RedisReply reply, impl_->Call("stats", {}));
  std::map<std::string, RedisReply> values;
  for (size_t i = 0; i + 1 < reply.array.size(); i += 2) {
    values[reply.array[i].string] = std::move(reply.array[i + 1]);
  }
  QueueStats stats;
  stats.waiting = values["waiting"].integer;
  stats.leased = values["leased"].integer;
  stats.completed = values["completed"].integer;
  stats.dead = values["dead"].integer;
  stats.oldest_waiting_s = values["oldest_waiting_ms"].integer / 1e3;
  stats.oldest_lease_s = values["oldest_lease_ms"].integer / 1e3;
  stats.oldest_lease_worker = values["oldest_lease_worker"].string;
  stats.redelivered = values["redelivered"].integer;
  for (const char* kind : {"entry_lost", "stray_entry", "data_lost"}) {
    stats.alarms[kind] = values[kind].integer;
  }
  return stats;
}

}  // namespace tramontane
