#include "services/verifier/verify_stream.h"

#include <deque>
#include <memory>
#include <mutex>
#include <utility>

namespace tramontane {
namespace {

constexpr int kMaxInProgress = 1024;

class VerifyStreamReactor;

// Shared by the reactor and the desk's callbacks, which may outlive the call.
struct Outbox {
  std::mutex mutex;
  VerifyStreamReactor* reactor = nullptr;  // null once the call is done
  std::deque<v1::VerifyResult> results;    // the front one is being written while `writing`
  int in_progress = 0;                     // submitted and not yet written
  bool writing = false, reading = false, reads_over = false, finished = false;
};

class VerifyStreamReactor final
    : public grpc::ServerBidiReactor<v1::VerifyRequest, v1::VerifyResult> {
 public:
  explicit VerifyStreamReactor(ScoringDesk& desk) : desk_(desk), box_(std::make_shared<Outbox>()) {
    std::lock_guard lock(box_->mutex);
    box_->reactor = this;
    Advance();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      std::lock_guard lock(box_->mutex);
      box_->reading = false;
      box_->reads_over = true;
      Advance();
      return;
    }
    const v1::VerifyRequest request = std::move(request_);
    request_.Clear();
    if (request.cancel()) {
      desk_.Cancel(request.request_id());
      std::lock_guard lock(box_->mutex);
      box_->reading = false;
      Advance();
      return;
    }
    {
      std::lock_guard lock(box_->mutex);
      ++box_->in_progress;
    }
    desk_.Submit(request, [box = box_](const v1::VerifyResult& result) {
      std::lock_guard lock(box->mutex);
      if (box->reactor == nullptr) return;
      box->results.push_back(result);
      box->reactor->Advance();
    });
    std::lock_guard lock(box_->mutex);
    box_->reading = false;
    Advance();
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(box_->mutex);
    box_->writing = false;
    box_->results.pop_front();
    --box_->in_progress;
    if (!ok) FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the client went away"));
    Advance();
  }

  void OnCancel() override {
    std::lock_guard lock(box_->mutex);
    FinishOnce(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    {
      std::lock_guard lock(box_->mutex);
      box_->reactor = nullptr;
    }
    delete this;
  }

  // Starts whatever can be started. The mutex is held.
  void Advance() {
    if (box_->finished) return;
    if (!box_->writing && !box_->results.empty()) {
      box_->writing = true;
      StartWrite(&box_->results.front());
    }
    if (!box_->reading && !box_->reads_over && box_->in_progress < kMaxInProgress) {
      box_->reading = true;
      StartRead(&request_);
    }
    if (box_->reads_over && box_->in_progress == 0) FinishOnce(grpc::Status::OK);
  }

 private:
  void FinishOnce(const grpc::Status& status) {
    if (box_->finished) return;
    box_->finished = true;
    Finish(status);
  }

  ScoringDesk& desk_;
  v1::VerifyRequest request_;
  const std::shared_ptr<Outbox> box_;
};

}  // namespace

grpc::ServerBidiReactor<v1::VerifyRequest, v1::VerifyResult>* NewVerifyStream(ScoringDesk& desk) {
  return new VerifyStreamReactor(desk);
}

}  // namespace tramontane
