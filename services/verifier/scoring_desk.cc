#include "services/verifier/scoring_desk.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "common/clock.h"
#include "common/hash.h"
#include "services/convert.h"
#include "services/judged_digest.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kIdleWait(500);

// What a verdict depends on. A group that was given up and sampled again has the same ids and
// other completions; it must not get the old verdicts.
std::string Fingerprint(v1::VerifyRequest request) {
  request.clear_exec_timeout_s();
  request.clear_queue_deadline_s();
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    request.SerializeToCodedStream(&coded);
  }
  return Sha256Hex(bytes);
}

GradeRequest ToGradeRequest(const v1::VerifyRequest& request) {
  GradeRequest grade;
  grade.prompt = request.prompt();
  grade.completion = request.completion();
  grade.completion_tokens = static_cast<int32_t>(request.completion_tokens());
  grade.finish_reason = FromProto(request.finish_reason());
  grade.answer = request.answer();
  for (const auto& [part, weight] : request.reward_weights()) grade.reward_weights[part] = weight;
  if (request.has_params()) grade.params = FromStruct(request.params());
  return grade;
}

// One request a sample of a group.
std::vector<GradeRequest> SamplesOf(const v1::VerifyRequest& request, const GradeRequest& shared) {
  std::vector<GradeRequest> samples;
  for (const v1::GroupSample& sample : request.group()) {
    GradeRequest& one = samples.emplace_back(shared);
    one.completion = sample.completion();
    one.completion_tokens = static_cast<int32_t>(sample.completion_tokens());
    one.finish_reason = FromProto(sample.finish_reason());
  }
  return samples;
}

bool Retryable(v1::VerifyStatus status) {
  return status == v1::VERIFY_STATUS_VERIFIER_ERROR || status == v1::VERIFY_STATUS_SANDBOX_ERROR ||
         status == v1::VERIFY_STATUS_OVERLOADED || status == v1::VERIFY_STATUS_CANCELLED;
}

// "VERIFY_STATUS_SCORED" → "scored".
std::string StatusLabel(v1::VerifyStatus status) {
  std::string name = v1::VerifyStatus_Name(status).substr(sizeof("VERIFY_STATUS_") - 1);
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

}  // namespace

ScoringDesk::ScoringDesk(std::shared_ptr<const Grader> grader, ScoringOptions options,
                         MetricsRegistry& metrics)
    : grader_(std::move(grader)),
      options_(options),
      queue_seconds_(metrics.MakeHistogram("tramontane_verifier_queue_seconds",
                                           {{"verifier", grader_->name()}})),
      exec_seconds_(metrics.MakeHistogram("tramontane_verifier_exec_seconds",
                                          {{"verifier", grader_->name()}})),
      in_flight_(
          metrics.MakeGauge("tramontane_verifier_in_flight", {{"verifier", grader_->name()}})),
      waited_for_requests_(
          metrics.MakeCounter("tramontane_verifier_wait_seconds_total",
                              {{"verifier", grader_->name()}, {"reason", "requests"}})),
      queue_(static_cast<size_t>(options.max_waiting)) {
  for (int status = v1::VERIFY_STATUS_SCORED; status <= v1::VerifyStatus_MAX; ++status) {
    results_[status] =
        metrics.MakeCounter("tramontane_verifier_results_total",
                            {{"verifier", grader_->name()},
                             {"status", StatusLabel(static_cast<v1::VerifyStatus>(status))}});
  }
  for (int32_t i = 0; i < options_.threads; ++i) workers_.emplace_back([this] { Work(); });
}

ScoringDesk::~ScoringDesk() { Drain(); }

void ScoringDesk::Drain() {
  queue_.Close();
  for (std::thread& worker : workers_) {
    if (worker.joinable()) worker.join();
  }
}

int64_t ScoringDesk::waiting() const { return static_cast<int64_t>(queue_.size()); }

void ScoringDesk::Submit(const v1::VerifyRequest& request, Done done) {
  // A request without an id can be neither repeated nor cancelled; tools send such.
  const std::string key = request.request_id().empty()
                              ? "#" + std::to_string(anonymous_.fetch_add(1))
                              : request.request_id() + "#" + Fingerprint(request);
  EntryPtr entry;
  v1::VerifyResult known;
  {
    std::lock_guard lock(mutex_);
    if (const auto it = entries_.find(key); it != entries_.end()) {
      if (!it->second->done) {
        it->second->waiters.push_back(std::move(done));
        return;
      }
      known = it->second->result;
    } else {
      entry = std::make_shared<Entry>();
      entry->request = request;
      entry->waiters.push_back(std::move(done));
      entry->submitted = std::chrono::steady_clock::now();
      entries_[key] = entry;
      if (!request.request_id().empty()) unfinished_keys_.emplace(request.request_id(), key);
    }
  }
  if (!entry) {
    done(known);
    return;
  }
  in_flight_.Add(1);
  auto item = std::pair(key, entry);
  if (!queue_.TryPush(std::move(item))) {
    v1::VerifyResult result = Blank(request.request_id(), v1::VERIFY_STATUS_OVERLOADED);
    result.set_feedback("the verifier's queue is full");
    Finish(key, entry, std::move(result));
  }
}

void ScoringDesk::Cancel(const std::string& request_id) {
  std::vector<std::pair<std::string, EntryPtr>> found;
  {
    std::lock_guard lock(mutex_);
    const auto [first, last] = unfinished_keys_.equal_range(request_id);
    for (auto it = first; it != last; ++it) {
      found.emplace_back(it->second, entries_.at(it->second));
      // All before the first is finished: its worker would take the next.
      found.back().second->given_up = true;
    }
  }
  for (const auto& [key, entry] : found) {
    Finish(key, entry, Blank(request_id, v1::VERIFY_STATUS_CANCELLED));
  }
}

void ScoringDesk::Work() {
  while (true) {
    const auto idle_since = std::chrono::steady_clock::now();
    auto item = queue_.Pop(kIdleWait);
    waited_for_requests_.Add(SecondsSince(idle_since));
    if (!item) {
      if (queue_.closed()) return;
      continue;
    }
    const auto& [key, entry] = *item;
    {
      std::lock_guard lock(mutex_);
      if (entry->given_up) continue;  // cancelled while it waited
    }
    const double queue_seconds = SecondsSince(entry->submitted);
    queue_seconds_.Observe(queue_seconds);
    const double limit = entry->request.queue_deadline_s();
    if (limit > 0 && queue_seconds > limit) {
      v1::VerifyResult late = Blank(entry->request.request_id(), v1::VERIFY_STATUS_OVERLOADED);
      late.set_feedback("waited longer than queue_deadline_s");
      late.set_queue_seconds(queue_seconds);
      Finish(key, entry, std::move(late));
      continue;
    }
    v1::VerifyResult result = Run(*entry, queue_seconds);
    exec_seconds_.Observe(result.exec_seconds());
    Finish(key, entry, std::move(result));
  }
}

v1::VerifyResult ScoringDesk::Run(const Entry& entry, double queue_seconds) const {
  const v1::VerifyRequest& request = entry.request;
  v1::VerifyResult result;
  const auto start = std::chrono::steady_clock::now();
  const double limit = request.exec_timeout_s();
  GradeRequest grade = ToGradeRequest(request);
  grade.stop = [&entry, start, limit] {
    return entry.given_up || (limit > 0 && SecondsSince(start) > limit);
  };
  if (const absl::Status row = grader_->CheckRow(grade.answer, grade.params); !row.ok()) {
    result = Blank(request.request_id(), v1::VERIFY_STATUS_BAD_INPUT);
    result.set_feedback(std::string(row.message()));
  } else if (request.group_size() == 0) {
    result = ToProto(grader_->Grade(grade), request.request_id());
  } else if (grader_->group_aware()) {
    result = Blank(request.request_id(), v1::VERIFY_STATUS_SCORED);
    for (const Verdict& verdict : grader_->GradeGroup(SamplesOf(request, grade))) {
      *result.add_group() = ToProto(verdict, request.request_id());
    }
  } else {
    result = Blank(request.request_id(), v1::VERIFY_STATUS_BAD_INPUT);
    result.set_feedback("this verifier judges samples one by one, not groups");
  }
  const double exec_seconds = SecondsSince(start);
  // One that took longer all the same is a timeout, and its score is not used.
  if (limit > 0 && exec_seconds > limit) {
    result = Blank(request.request_id(), v1::VERIFY_STATUS_TIMEOUT);
    result.set_feedback("execution took longer than exec_timeout_s");
  }
  result.set_judged(JudgedDigest(request));
  result.set_queue_seconds(queue_seconds);
  result.set_exec_seconds(exec_seconds);
  return result;
}

v1::VerifyResult ScoringDesk::Blank(const std::string& request_id, v1::VerifyStatus status) const {
  v1::VerifyResult result;
  result.set_request_id(request_id);
  result.set_status(status);
  result.set_retryable(Retryable(status));
  result.set_verifier(grader_->name());
  result.set_version(grader_->version());
  result.set_digest(grader_->digest());
  return result;
}

void ScoringDesk::Finish(const std::string& key, const EntryPtr& entry, v1::VerifyResult result) {
  std::vector<Done> waiters;
  {
    std::lock_guard lock(mutex_);
    if (entry->done) return;
    entry->done = true;
    entry->given_up = true;
    waiters.swap(entry->waiters);
    const auto [first, last] = unfinished_keys_.equal_range(entry->request.request_id());
    const auto mine =
        std::find_if(first, last, [&](const auto& item) { return item.second == key; });
    if (mine != last) unfinished_keys_.erase(mine);
    // Only verdicts are worth remembering: what was not tried may be tried again.
    if (result.retryable() || entry->request.request_id().empty()) {
      entries_.erase(key);
    } else {
      entry->result = result;
      entry->request.Clear();
      Remember(key);
    }
  }
  in_flight_.Add(-1);
  finished_.fetch_add(1);
  results_.at(result.status()).Add();
  for (const Done& done : waiters) done(result);
}

void ScoringDesk::Remember(const std::string& key) {
  remembered_.push_back(key);
  while (remembered_.size() > static_cast<size_t>(options_.max_remembered)) {
    entries_.erase(remembered_.front());
    remembered_.pop_front();
  }
}

}  // namespace tramontane
