#include "trainer/loop/startup.h"

#include <chrono>
#include <thread>
#include <type_traits>
#include <utility>

#include "common/clock.h"
#include "common/files.h"
#include "common/status.h"
#include "trainer/loop/loop_shared.h"

namespace tramontane {
namespace {

constexpr double kRedisStartPatienceS = 5;

// Redis may be starting beside us, or again.
template <class Call>
std::invoke_result_t<Call> AwaitRedis(Call&& call) {
  const auto start = std::chrono::steady_clock::now();
  while (true) {
    auto result = call();
    if (!absl::IsUnavailable(StatusOf(result)) || SecondsSince(start) > kRedisStartPatienceS)
      return result;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

}  // namespace

absl::StatusOr<LoopParts> PrepareLoop(const RunLoop::Options& options) {
  RETURN_IF_ERROR(MakeDirs(options.run_dir));
  std::unique_ptr<Journal> journal;
  ASSIGN_OR_RETURN(journal, Journal::Open(options.run_dir + "/journal.jsonl"));
  ASSIGN_OR_RETURN(BlobStore blobs, BlobStore::Open(options.run_dir + "/blobs"));
  LoopParts parts{std::move(journal), std::move(blobs), {}, nullptr, nullptr, 0};
  ASSIGN_OR_RETURN(parts.plan, PlanRecovery(*parts.journal, options.resume, options.restored,
                                            options.config.trainer.checkpoint_interval_steps));
  const auto connect = [&] { return WorkQueue::Connect(options.config.redis, options.run_id); };
  ASSIGN_OR_RETURN(parts.dispatcher_queue, AwaitRedis(connect));
  ASSIGN_OR_RETURN(parts.collector_queue, AwaitRedis(connect));
  ASSIGN_OR_RETURN(parts.epoch, AwaitRedis([&] {
                     return parts.dispatcher_queue->Fence(parts.plan.last_epoch);
                   }));
  // Whatever an earlier run of this name left in Redis has nothing to do with an empty journal.
  if (parts.journal->records().empty())
    RETURN_IF_ERROR(AwaitRedis([&] { return parts.dispatcher_queue->Reset(); }));
  JournalRecord record;
  record.kind = "epoch";
  record.epoch = parts.epoch;
  record.step = parts.plan.step;
  record.detail = {{"run_id", options.run_id}};
  RETURN_IF_ERROR(parts.journal->Append(record, /*durable=*/true));
  return parts;
}

}  // namespace tramontane
