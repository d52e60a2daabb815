#include "services/generator/http/http_exchange.h"

#include <microhttpd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace tramontane {

void HttpExchange::Reply(HttpReply reply) {
  ReplyWith([reply = std::move(reply)] { return reply; });
}

void HttpExchange::ReplyWith(Render render) { Answer(std::move(render), nullptr, ""); }

void HttpExchange::Stream(std::string content_type, Source source) {
  Answer(nullptr, std::move(source), std::move(content_type));
}

void HttpExchange::Answer(Render render, Source source, std::string content_type) {
  std::lock_guard lock(mutex_);
  if (std::exchange(answered_, true) || connection_ == nullptr) return;
  render_ = std::move(render);
  source_ = std::move(source);
  content_type_ = std::move(content_type);
  Resume();
}

void HttpExchange::Wake() {
  std::lock_guard lock(mutex_);
  Resume();
}

// Holds mutex_. A wake that comes before the network thread sleeps keeps it from sleeping.
void HttpExchange::Resume() {
  woken_ = true;
  if (std::exchange(suspended_, false)) MHD_resume_connection(connection_);
}

void HttpExchange::OnGone(std::chrono::steady_clock::time_point deadline, GoneCallback callback) {
  {
    std::lock_guard lock(mutex_);
    if (connection_ != nullptr && !killed_) {
      deadline_ = deadline;
      on_gone_ = std::move(callback);
      return;
    }
  }
  callback(Gone::kClient);
}

void HttpExchange::TakeBody(const char* data, size_t size, size_t most) {
  body_bytes_ += size;
  if (body_bytes_ > most) {
    std::string().swap(request_.body);  // the rest is read and forgotten
  } else {
    request_.body.append(data, size);
  }
}

void HttpExchange::Attach(MHD_Connection* connection) {
  std::lock_guard lock(mutex_);
  connection_ = connection;
}

HttpExchange::Next HttpExchange::Advance() {
  std::lock_guard lock(mutex_);
  if (answered_) return Next::kAnswer;
  if (killed_) return Next::kClose;
  suspended_ = true;
  MHD_suspend_connection(connection_);
  return Next::kParked;
}

ssize_t HttpExchange::Read(char* buffer, size_t most) {
  while (true) {
    if (unsent_begin_ < unsent_.size()) {
      const size_t size = std::min(most, unsent_.size() - unsent_begin_);
      std::memcpy(buffer, unsent_.data() + unsent_begin_, size);
      unsent_begin_ += size;
      return static_cast<ssize_t>(size);
    }
    if (ended_) return MHD_CONTENT_READER_END_OF_STREAM;
    unsent_.clear();
    unsent_begin_ = 0;
    {
      std::lock_guard lock(mutex_);
      if (killed_) return MHD_CONTENT_READER_END_WITH_ERROR;
      woken_ = false;
    }
    const Pulled pulled = source_(unsent_);  // set before the answer began, cleared at its end
    ended_ = pulled == Pulled::kEnd;
    if (pulled != Pulled::kLater || !unsent_.empty()) continue;
    std::lock_guard lock(mutex_);
    if (woken_ || killed_) continue;
    suspended_ = true;
    MHD_suspend_connection(connection_);
    return 0;
  }
}

void HttpExchange::Closed(bool sent, bool too_slow) {
  Source source;
  Render render;
  GoneCallback callback;
  Gone why = too_slow ? Gone::kSlowReader : Gone::kClient;
  {
    std::lock_guard lock(mutex_);
    connection_ = nullptr;
    suspended_ = false;
    if (killed_) why = Gone::kShutdown;
    callback = std::exchange(on_gone_, nullptr);
    source = std::exchange(source_, nullptr);  // they hold what holds this
    render = std::exchange(render_, nullptr);
  }
  if (!sent && callback) callback(why);
}

// A connection that waits for its answer is out of the library's sight; so somebody has to look.
bool HttpExchange::ClientLeft() const {
  const MHD_ConnectionInfo* info =
      MHD_get_connection_info(connection_, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info == nullptr) return false;
  char byte;
  const ssize_t got = ::recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void HttpExchange::Watch(std::chrono::steady_clock::time_point now) {
  GoneCallback callback;
  Gone why = Gone::kDeadline;
  {
    std::lock_guard lock(mutex_);
    if (connection_ == nullptr || killed_) return;
    if (suspended_ && ClientLeft()) {
      why = Gone::kClient;
      killed_ = true;
      Resume();
    } else if (now < deadline_) {
      return;
    }
    deadline_ = std::chrono::steady_clock::time_point::max();
    callback = std::exchange(on_gone_, nullptr);
  }
  if (callback) callback(why);
}

void HttpExchange::Kill() {
  std::lock_guard lock(mutex_);
  killed_ = true;
  if (connection_ != nullptr) Resume();
}

}  // namespace tramontane
