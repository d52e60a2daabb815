#include "tests/unit/verifier_service/hostile_services.h"

#include <grpcpp/generic/async_generic_service.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <vector>

namespace tramontane {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A free port. Whoever takes it before the verifier does makes the test fail, not pass.
int FreeLoopbackPort() {
  ScriptedVerifier nobody([](const auto&, int, v1::VerifyResult*) { return grpc::Status::OK; });
  int port = 0;
  Serve(&nobody, &port)->Shutdown();
  return port;
}

pid_t Spawn(int port) {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  std::vector<std::string> arguments = {(self.parent_path() / "killable_verifier").string(),
                                        std::to_string(port)};
  char* argv[] = {arguments[0].data(), arguments[1].data(), nullptr};
  pid_t pid = -1;
  return posix_spawn(&pid, argv[0], nullptr, nullptr, argv, environ) == 0 ? pid : -1;
}

grpc::ByteBuffer Buffer(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string Flat(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  if (!buffer.DumpToSingleSlice(&slice).ok()) return "";
  return std::string(slice.begin(), slice.end());
}

}  // namespace

std::string Order::ToString() const {
  return std::to_string(kind) + "/" + std::to_string(static_cast<int>(mood));
}

Order Order::Parse(const std::string& completion) {
  Order order;
  order.kind = std::stoi(completion);
  order.mood = static_cast<Mood>(std::stoi(completion.substr(completion.find('/') + 1)));
  return order;
}

bool Order::Misbehaves(int attempt) const {
  switch (mood) {
    case Mood::kAlways:
      return true;
    case Mood::kOnce:
      return attempt == 1;
    case Mood::kTwice:
      return attempt <= 2;
    case Mood::kNever:
      return false;
  }
  return false;
}

void TellLie(int kind, v1::VerifyResult* r) {
  switch (kind) {
    case 0:
      return r->set_reward(std::nan(""));
    case 1:
      return r->set_reward(-kInfinity);
    case 2:
      return r->set_reward(1e300);
    case 3:
      return r->clear_reward();
    case 4:
      return r->set_status(v1::VERIFY_STATUS_TIMEOUT);  // and a reward
    case 5:
      return r->set_status(static_cast<v1::VerifyStatus>(77));
    case 6:
      (*r->mutable_components())["x"] = kInfinity;
      return;
    case 7:
      (*r->mutable_metrics())["x"] = std::nan("");
      return;
    case 8:
      return r->set_exec_seconds(std::nan(""));
    case 9:
      return r->set_queue_seconds(kInfinity);
    case 10:
      r->clear_reward();
      return r->set_status(v1::VERIFY_STATUS_VERIFIER_ERROR);
    case 11:
      r->clear_reward();
      return r->set_status(v1::VERIFY_STATUS_SANDBOX_ERROR);
    case 12:
      r->set_status(v1::VERIFY_STATUS_POLICY_FAILURE);
      return r->set_reward(std::nan(""));
    default:
      return r->clear_status();
  }
}

void TellGroupLie(int kind, v1::VerifyResult* r) {
  switch (kind) {
    case 0:
      return r->mutable_group()->RemoveLast();
    case 1:
      return r->mutable_group(0)->set_reward(std::nan(""));
    default:
      r->clear_group();
      return r->set_reward(1);
  }
}

class GarbageVerifier::Service final : public grpc::CallbackGenericService {
 public:
  explicit Service(std::string bytes) : bytes_(std::move(bytes)) {}
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    return new Reactor(context->method(), *this);
  }

 private:
  std::string AnswerTo(const std::string& bytes) {
    v1::VerifyRequest request;
    if (!request.ParseFromString(bytes) || request.cancel()) return "";
    const Order order = Order::Parse(request.completion());
    std::lock_guard lock(mutex_);
    if (order.Misbehaves(++attempts_[request.request_id()])) return bytes_;
    v1::VerifyResult result;
    result.set_request_id(request.request_id());
    result.set_status(v1::VERIFY_STATUS_SCORED);
    result.set_reward(0.5);
    return result.SerializeAsString();
  }

  class Reactor final : public grpc::ServerGenericBidiReactor {
   public:
    Reactor(const std::string& method, Service& service)
        : describe_(method.ends_with("/Describe")), service_(service) {
      if (!describe_ && !method.ends_with("/VerifyStream")) {
        Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "only garbage here"));
        return;
      }
      StartRead(&in_);
    }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      if (describe_) {
        v1::VerifierDescription description;
        *description.mutable_handshake() = MakeHandshake(Identity{});
        description.set_capacity(4);
        out_ = Buffer(description.SerializeAsString());
      } else {
        const std::string answer = service_.AnswerTo(Flat(in_));
        if (answer.empty()) return StartRead(&in_);
        out_ = Buffer(answer);
      }
      StartWrite(&out_);
    }
    void OnWriteDone(bool ok) override {
      if (!ok || describe_) return Finish(grpc::Status::OK);
      StartRead(&in_);
    }
    void OnDone() override { delete this; }

   private:
    const bool describe_;
    Service& service_;
    grpc::ByteBuffer in_, out_;
  };

  const std::string bytes_;
  std::mutex mutex_;
  std::map<std::string, int> attempts_;
};

GarbageVerifier::GarbageVerifier(std::string bytes)
    : service_(std::make_unique<Service>(std::move(bytes))) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
  builder.RegisterCallbackGenericService(service_.get());
  server_ = builder.BuildAndStart();
}

GarbageVerifier::~GarbageVerifier() { server_->Shutdown(std::chrono::system_clock::now()); }

KillableVerifier::KillableVerifier()
    : port_(FreeLoopbackPort()), pid_(Spawn(port_)), watcher_([this] { Watch(); }) {}

KillableVerifier::~KillableVerifier() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (pid_ > 0) kill(pid_, SIGKILL);
  }
  watcher_.join();
}

void KillableVerifier::Watch() {
  while (true) {
    int status = 0;
    if (pid_ <= 0 || waitpid(pid_, &status, 0) != pid_) return;
    std::lock_guard lock(mutex_);
    pid_ = -1;
    if (stopping_) return;
    ++deaths_;
    pid_ = Spawn(port_);
  }
}

}  // namespace tramontane
