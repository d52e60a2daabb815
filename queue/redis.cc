#include "queue/redis.h"

#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/time.h>

#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "common/status.h"
#include "queue/redis_url.h"

namespace tramontane {
namespace {

struct ContextDeleter {
  void operator()(redisContext* context) const { redisFree(context); }
};
using ContextPtr = std::unique_ptr<redisContext, ContextDeleter>;

struct ReplyDeleter {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using ReplyPtr = std::unique_ptr<redisReply, ReplyDeleter>;

// This hiredis writes without MSG_NOSIGNAL: a server that hung up would end the process. Holds
// SIGPIPE back in this thread for a scope and swallows the one that a write raised in it.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    if (sigismember(&before_, SIGPIPE) == 1) return;
    const timespec at_once{};
    while (sigtimedwait(&pipe_, nullptr, &at_once) == SIGPIPE) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

 private:
  sigset_t pipe_{}, before_{};
};

timeval ToTimeval(double seconds) {
  timeval out{};
  out.tv_sec = static_cast<time_t>(seconds);
  out.tv_usec = static_cast<suseconds_t>((seconds - std::floor(seconds)) * 1e6);
  return out;
}

bool StartsWith(const std::string& text, std::string_view prefix) {
  return std::string_view(text).substr(0, prefix.size()) == prefix;
}

// An error reply's first word decides what the caller can do about it.
absl::Status FromErrorReply(const std::string& text) {
  for (const char* prefix : {"LOADING", "MASTERDOWN", "TRYAGAIN", "BUSY ", "UNKILLABLE"}) {
    if (StartsWith(text, prefix)) return absl::UnavailableError("redis: " + text);
  }
  for (const char* prefix : {"OOM", "MISCONF"}) {
    if (StartsWith(text, prefix)) return absl::ResourceExhaustedError("redis: " + text);
  }
  for (const char* prefix : {"NOAUTH", "WRONGPASS", "NOPERM"}) {
    if (StartsWith(text, prefix)) return absl::PermissionDeniedError("redis: " + text);
  }
  if (StartsWith(text, "LEASELOST") || StartsWith(text, "FORGOTTEN")) {
    return absl::FailedPreconditionError("redis: " + text);
  }
  if (StartsWith(text, "FENCED")) return absl::AbortedError("redis: " + text);
  if (text.find("Function not found") != std::string::npos) {
    return absl::NotFoundError("redis: " + text);
  }
  return absl::InternalError("redis: " + text);
}

RedisReply Convert(const redisReply& reply) {
  RedisReply out;
  switch (reply.type) {
    case REDIS_REPLY_INTEGER:
      out.kind = RedisReply::Kind::kInteger;
      out.integer = reply.integer;
      break;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:  // nested in an array; a top-level one became a Status
      out.kind = RedisReply::Kind::kString;
      out.string.assign(reply.str, reply.len);
      break;
    case REDIS_REPLY_ARRAY:
      out.kind = RedisReply::Kind::kArray;
      out.array.reserve(reply.elements);
      for (size_t i = 0; i < reply.elements; ++i) out.array.push_back(Convert(*reply.element[i]));
      break;
    default:
      break;
  }
  return out;
}

}  // namespace

struct RedisConnection::Impl {
  RedisUrl url;
  double command_timeout_s = 5;
  ContextPtr context;
  double set_timeout_s = -1;  // what the socket waits now; saves a system call per command

  absl::Status Dial();
  absl::StatusOr<RedisReply> Run(const std::vector<std::string>& argv, double timeout_s);
  absl::Status Broken(const std::string& what);
};

absl::Status RedisConnection::Impl::Broken(const std::string& what) {
  std::string why = what;
  if (context && context->err) why += std::string(": ") + context->errstr;
  context.reset();
  return absl::UnavailableError("redis " + url.Printable() + ": " + why);
}

absl::Status RedisConnection::Impl::Dial() {
  const timeval timeout = ToTimeval(command_timeout_s);
  context.reset(url.unix_path.empty()
                    ? redisConnectWithTimeout(url.host.c_str(), url.port, timeout)
                    : redisConnectUnixWithTimeout(url.unix_path.c_str(), timeout));
  if (!context) return absl::ResourceExhaustedError("redis: out of memory");
  set_timeout_s = -1;
  if (context->err) return Broken("cannot connect");
  if (url.unix_path.empty()) redisEnableKeepAlive(context.get());
  if (!url.password.empty()) {
    std::vector<std::string> auth = {"AUTH"};
    if (!url.user.empty()) auth.push_back(url.user);
    auth.push_back(url.password);
    absl::StatusOr<RedisReply> reply = Run(auth, command_timeout_s);
    if (!reply.ok()) {
      context.reset();
      return reply.status();
    }
  }
  if (url.database != 0) {
    absl::StatusOr<RedisReply> reply = Run({"SELECT", std::to_string(url.database)}, command_timeout_s);
    if (!reply.ok()) {
      context.reset();
      return reply.status();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RedisReply> RedisConnection::Impl::Run(const std::vector<std::string>& argv,
                                                      double timeout_s) {
  if (timeout_s != set_timeout_s) {
    if (redisSetTimeout(context.get(), ToTimeval(timeout_s)) != REDIS_OK) return Broken("set timeout");
    set_timeout_s = timeout_s;
  }
  std::vector<const char*> values;
  std::vector<size_t> sizes;
  values.reserve(argv.size());
  sizes.reserve(argv.size());
  for (const std::string& argument : argv) {
    values.push_back(argument.data());
    sizes.push_back(argument.size());
  }
  ReplyPtr reply(static_cast<redisReply*>(redisCommandArgv(
      context.get(), static_cast<int>(argv.size()), values.data(), sizes.data())));
  if (!reply) return Broken(argv[0] + " got no answer");
  if (reply->type == REDIS_REPLY_ERROR) return FromErrorReply(std::string(reply->str, reply->len));
  return Convert(*reply);
}

RedisConnection::~RedisConnection() = default;

absl::StatusOr<std::unique_ptr<RedisConnection>> RedisConnection::Create(const std::string& url,
                                                                         double command_timeout_s) {
  if (!(command_timeout_s > 0)) {
    return absl::InvalidArgumentError("redis.command_timeout_s: must be above 0");
  }
  std::unique_ptr<RedisConnection> connection(new RedisConnection());
  connection->impl_ = std::make_unique<Impl>();
  ASSIGN_OR_RETURN(connection->impl_->url, ParseRedisUrl(url));
  connection->impl_->command_timeout_s = command_timeout_s;
  return connection;
}

absl::StatusOr<RedisReply> RedisConnection::Command(const std::vector<std::string>& argv,
                                                    double timeout_s) {
  const NoSigpipe guard;
  if (!impl_->context) RETURN_IF_ERROR(impl_->Dial());
  return impl_->Run(argv, timeout_s < 0 ? impl_->command_timeout_s : timeout_s);
}

}  // namespace tramontane
