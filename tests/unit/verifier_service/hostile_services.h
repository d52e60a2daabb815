// Verifier services that answer with anything, for hostile_test.cc. A completion is "<kind>/<mood>"
// with a number for the kind of misbehaviour; the mood says how often it is shown.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "tests/unit/verifier_service/scripted_verifier.h"

namespace tramontane {

enum class Mood { kAlways, kOnce, kTwice, kNever };
inline constexpr int kMoods = 4;

struct Order {
  int kind = 0;
  Mood mood = Mood::kNever;

  std::string ToString() const;
  static Order Parse(const std::string& completion);
  bool Misbehaves(int attempt) const;
};

// Replies that cannot be true, by kind; `result` comes with an honest score.
inline constexpr int kLies = 14;
void TellLie(int kind, v1::VerifyResult* result);

// Of a group scorer: a result for one sample fewer, a score that is no number, no results at all.
inline constexpr int kGroupLies = 3;
void TellGroupLie(int kind, v1::VerifyResult* result);

// Speaks gRPC, and in place of the contract's messages sends bytes that are none.
class GarbageVerifier {
 public:
  explicit GarbageVerifier(std::string bytes);
  ~GarbageVerifier();
  int port() const { return port_; }

 private:
  class Service;
  const std::unique_ptr<Service> service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// killable_verifier.cc as a process, started again whenever it dies: it kills itself over requests
// that misbehave.
class KillableVerifier {
 public:
  KillableVerifier();
  ~KillableVerifier();
  int port() const { return port_; }
  int deaths() const { return deaths_; }

 private:
  void Watch();

  int port_ = 0;
  std::mutex mutex_;
  pid_t pid_ = -1;  // guarded by mutex_
  bool stopping_ = false;
  std::atomic<int> deaths_ = 0;
  std::thread watcher_;
};

}  // namespace tramontane
