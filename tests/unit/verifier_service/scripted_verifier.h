// A verifier service that does what a test says, by a function of request and attempt (from 1).
// Each request runs on a thread of its own, so that replies come out of order.
#pragma once

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "services/handshake.h"
#include "tramontane/v1/verifier.grpc.pb.h"

namespace tramontane {

class ScriptedVerifier final : public v1::Verifier::CallbackService {
 public:
  // The result comes filled in with a score of 0.5. A status other than OK ends the stream.
  using Script = std::function<grpc::Status(const v1::VerifyRequest&, int, v1::VerifyResult*)>;
  explicit ScriptedVerifier(Script script) : script_(std::move(script)) {
    *description.mutable_handshake() = MakeHandshake(Identity{});
    description.set_name("scripted");
    description.set_version("1.2.3");
    description.set_digest("digest-1");
    description.set_reward_max(1);
    description.set_capacity(4);
  }
  ~ScriptedVerifier() override {
    for (std::thread& thread : threads_) thread.join();
  }

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRequest*,
                                     v1::VerifierDescription* reply) override {
    *reply = description;
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerBidiReactor<v1::VerifyRequest, v1::VerifyResult>* VerifyStream(
      grpc::CallbackServerContext*) override {
    ++streams;
    return new Reactor(*this);
  }

  int attempts(const std::string& request_id) const {
    std::lock_guard lock(mutex_);
    const auto it = attempts_.find(request_id);
    return it == attempts_.end() ? 0 : it->second;
  }

  v1::VerifierDescription description;  // change it only while nobody is served
  // What is said besides the result, once it has been said. Set it before anybody is served.
  std::function<std::vector<v1::VerifyResult>(const v1::VerifyRequest&, int attempt)> more;
  std::atomic<int> calls = 0, most_at_once = 0, streams = 0, cancels = 0;

 private:
  class Reactor;
  struct Box {
    std::mutex mutex;
    Reactor* reactor = nullptr;
    std::deque<v1::VerifyResult> results;
    bool writing = false, finished = false;
  };
  class Reactor final : public grpc::ServerBidiReactor<v1::VerifyRequest, v1::VerifyResult> {
   public:
    explicit Reactor(ScriptedVerifier& verifier)
        : verifier_(verifier), box_(std::make_shared<Box>()) {
      box_->reactor = this;
      StartRead(&request_);
    }
    void OnReadDone(bool ok) override {
      if (!ok) return End(grpc::Status::OK);
      if (request_.cancel()) {
        ++verifier_.cancels;
      } else {
        verifier_.Run(request_, box_);
      }
      StartRead(&request_);
    }
    void OnWriteDone(bool) override {
      std::lock_guard lock(box_->mutex);
      box_->writing = false;
      box_->results.pop_front();
      WriteNext();
    }
    void OnCancel() override { End(grpc::Status::CANCELLED); }
    void OnDone() override {
      {
        std::lock_guard lock(box_->mutex);
        box_->reactor = nullptr;
      }
      delete this;
    }
    void End(const grpc::Status& status) {
      std::lock_guard lock(box_->mutex);
      EndLocked(status);
    }
    void EndLocked(const grpc::Status& status) {
      if (!std::exchange(box_->finished, true)) Finish(status);
    }
    void WriteNext() {
      if (box_->writing || box_->finished || box_->results.empty()) return;
      box_->writing = true;
      StartWrite(&box_->results.front());
    }

   private:
    ScriptedVerifier& verifier_;
    const std::shared_ptr<Box> box_;
    v1::VerifyRequest request_;
  };

  void Run(const v1::VerifyRequest& request, const std::shared_ptr<Box>& box) {
    std::lock_guard lock(mutex_);
    threads_.emplace_back([this, request, box] {
      v1::VerifyResult result;
      int attempt = 0;
      const grpc::Status status = Answer(request, &result, &attempt);
      std::lock_guard box_lock(box->mutex);
      if (box->reactor == nullptr || box->finished) return;
      if (!status.ok()) return box->reactor->EndLocked(status);
      box->results.push_back(std::move(result));
      if (more) std::ranges::move(more(request, attempt), std::back_inserter(box->results));
      box->reactor->WriteNext();
    });
  }

  grpc::Status Answer(const v1::VerifyRequest& request, v1::VerifyResult* result, int* attempt) {
    {
      std::lock_guard lock(mutex_);
      *attempt = ++attempts_[request.request_id()];
      ++calls;
      most_at_once = std::max<int>(most_at_once, ++at_once_);
    }
    result->set_request_id(request.request_id());
    result->set_status(v1::VERIFY_STATUS_SCORED);
    result->set_reward(0.5);
    result->set_version(description.version());
    result->set_digest(description.digest());
    const grpc::Status status = script_(request, *attempt, result);
    std::lock_guard lock(mutex_);
    --at_once_;
    return status;
  }

  const Script script_;
  mutable std::mutex mutex_;
  std::map<std::string, int> attempts_;
  int at_once_ = 0;
  std::vector<std::thread> threads_;
};

inline std::unique_ptr<grpc::Server> Serve(grpc::Service* service, int* port) {
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort("127.0.0.1:" + std::to_string(*port), grpc::InsecureServerCredentials(),
                           port);
  builder.RegisterService(service);
  return builder.BuildAndStart();
}

}  // namespace tramontane
