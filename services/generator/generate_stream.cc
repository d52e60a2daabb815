#include "services/generator/generate_stream.h"

#include <optional>
#include <utility>

#include "services/convert.h"
#include "services/generator/search_convert.h"
#include "services/rpc.h"

namespace tramontane {
namespace {

void Append(const TokenChunk& chunk, v1::TokenChunk& proto) {
  proto.mutable_tokens()->Add(chunk.tokens.begin(), chunk.tokens.end());
  proto.mutable_logprobs()->Add(chunk.logprobs.begin(), chunk.logprobs.end());
  proto.mutable_text()->append(chunk.text);
}

}  // namespace

class GenerateStream::Reactor final : public GenerateStream::Writer {
 public:
  explicit Reactor(std::shared_ptr<GenerateStream> stream) : stream_(std::move(stream)) {}

  // `event` must stay until OnWriteDone.
  void Write(v1::GenerateEvent event) {
    event_ = std::move(event);
    StartWrite(&event_);
  }

 private:
  void OnWriteDone(bool ok) override { stream_->OnWriteDone(ok); }
  void OnCancel() override { stream_->OnCancel(); }
  void OnDone() override {
    stream_->done_();
    delete this;
  }

  const std::shared_ptr<GenerateStream> stream_;
  v1::GenerateEvent event_;
};

GenerateStream::GenerateStream(int32_t samples, std::function<void()> cancel,
                               std::function<void()> done)
    : cancel_(std::move(cancel)), done_(std::move(done)), unfinished_(samples) {}

GenerateStream::Writer* GenerateStream::MakeReactor() {
  std::lock_guard lock(mutex_);
  reactor_ = new Reactor(shared_from_this());
  return reactor_;
}

void GenerateStream::Submitted(const absl::Status& status) {
  bool cancel;
  {
    std::lock_guard lock(mutex_);
    refusal_ = status;
    accepted_ = status.ok();
    cancel = accepted_ && reader_gone_;
  }
  if (cancel) cancel_();
  Pump();
}

void GenerateStream::OnChunk(TokenChunk chunk) {
  {
    std::lock_guard lock(mutex_);
    if (finishing_ || reader_gone_) return;
    auto& chunks = unsent_[chunk.sample_index].chunks;
    if (chunks.empty() || chunks.back().weight_version() != chunk.version ||
        chunks.back().injected() != chunk.injected) {
      v1::TokenChunk& added = chunks.emplace_back();
      added.set_sample_index(static_cast<uint32_t>(chunk.sample_index));
      added.set_weight_version(chunk.version);
      added.set_injected(chunk.injected);
    }
    Append(chunk, chunks.back());
  }
  Pump();
}

void GenerateStream::OnFinished(const Rollout& rollout, const std::string& session) {
  {
    std::lock_guard lock(mutex_);
    --unfinished_;
    if (!finishing_ && !reader_gone_) {
      unsent_[rollout.sample_index].finished = std::make_unique<v1::Rollout>(ToProto(rollout));
      unsent_[rollout.sample_index].session = session;
    }
  }
  Pump();
}

void GenerateStream::OnFound(const SearchParams& params,
                             const absl::StatusOr<SearchResult>& found) {
  {
    std::lock_guard lock(mutex_);
    --unfinished_;
    if (!found.ok()) {
      refusal_ = found.status();
    } else if (!finishing_ && !reader_gone_) {
      Rollout best = found->best.rollout;
      best.sample_index = 0;
      unsent_[0].search = std::make_unique<v1::SearchReport>(ToProto(params, *found));
      unsent_[0].finished = std::make_unique<v1::Rollout>(ToProto(best));
    }
  }
  Pump();
}

void GenerateStream::OnWriteDone(bool ok) {
  {
    std::lock_guard lock(mutex_);
    writing_ = false;
  }
  if (ok) {
    Pump();
  } else {
    OnCancel();
  }
}

void GenerateStream::OnCancel() {
  bool cancel;
  {
    std::lock_guard lock(mutex_);
    cancel = accepted_ && !reader_gone_ && unfinished_ > 0;
    reader_gone_ = true;
    unsent_.clear();
  }
  if (cancel) cancel_();
  Pump();
}

v1::GenerateEvent GenerateStream::NextEvent() {
  const auto it = unsent_.begin();
  Unsent& unsent = it->second;
  v1::GenerateEvent event;
  if (!unsent.chunks.empty()) {
    *event.mutable_chunk() = std::move(unsent.chunks.front());
    unsent.chunks.pop_front();
  } else if (unsent.search != nullptr) {
    *event.mutable_search() = std::move(*unsent.search);
    unsent.search.reset();
  } else {
    *event.mutable_finished() = std::move(*unsent.finished);
    event.set_session(unsent.session);
    unsent.finished.reset();
  }
  if (unsent.chunks.empty() && unsent.finished == nullptr) unsent_.erase(it);
  return event;
}

// Decides under the lock, acts outside of it: `writing_` and `finishing_` reserve the reactor, so
// no two threads act at once and it cannot end in between.
void GenerateStream::Pump() {
  std::optional<v1::GenerateEvent> event;
  grpc::Status end;
  Reactor* reactor;
  {
    std::lock_guard lock(mutex_);
    if (writing_ || finishing_ || reactor_ == nullptr) return;
    reactor = reactor_;
    if (!refusal_.ok()) {
      end = ToGrpc(refusal_);
    } else if (reader_gone_) {
      end = grpc::Status(grpc::StatusCode::CANCELLED, "the reader went away");
    } else if (!unsent_.empty()) {
      event = NextEvent();
    } else if (unfinished_ > 0) {
      return;
    }
    (event.has_value() ? writing_ : finishing_) = true;
  }
  if (event.has_value()) {
    reactor->Write(*std::move(event));
  } else {
    reactor->Finish(end);
  }
}

}  // namespace tramontane
