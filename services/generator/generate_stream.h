// One Generate call: what the engine has produced and the reader has not yet taken.
//
// The engine's callbacks only append here and never wait. New tokens of a sample are merged into
// its unsent chunk, so that a slow reader costs no more memory than its samples' own tokens, and
// gets fewer, larger chunks.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "generator/engine.h"
#include "generator/search/search.h"
#include "tramontane/v1/generator.grpc.pb.h"

namespace tramontane {

// Shared by the reactor (which gRPC may end at any time) and the engine's callbacks.
class GenerateStream : public std::enable_shared_from_this<GenerateStream> {
 public:
  using Writer = grpc::ServerWriteReactor<v1::GenerateEvent>;

  // `cancel` stops the engine's work when the reader goes away; `done` is called once at the end.
  GenerateStream(int32_t samples, std::function<void()> cancel, std::function<void()> done);

  // The reactor gRPC drives; deletes itself. Call once.
  Writer* MakeReactor();
  // What came of handing the samples to the engine. An error ends the call.
  void Submitted(const absl::Status& status);
  // What came of a search that was started.
  void OnFound(const SearchParams& params, const absl::StatusOr<SearchResult>& found);

  // Engine thread.
  void OnChunk(TokenChunk chunk);
  void OnFinished(const Rollout& rollout, const std::string& session = "");

 private:
  class Reactor;
  struct Action;
  struct Unsent {
    std::deque<v1::TokenChunk> chunks;  // at most one per weight version
    std::unique_ptr<v1::SearchReport> search;
    std::unique_ptr<v1::Rollout> finished;
    std::string session;
  };

  void OnWriteDone(bool ok);
  void OnCancel();
  void Pump();
  v1::GenerateEvent NextEvent();

  const std::function<void()> cancel_, done_;
  std::mutex mutex_;
  // All guarded by mutex_.
  std::map<int32_t, Unsent> unsent_;  // by sample
  int32_t unfinished_;                // samples whose end has not come from the engine
  bool writing_ = false, finishing_ = false, reader_gone_ = false;
  bool accepted_ = false;  // the engine works for this call, and no other has its id
  absl::Status refusal_;
  // Valid until finishing_; a write in flight keeps it alive.
  Reactor* reactor_ = nullptr;
};

}  // namespace tramontane
