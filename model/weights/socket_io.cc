#include "model/weights/socket_io.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "common/status.h"

namespace tramontane {
namespace {

absl::Status Broken(const std::string& what, int error_number) {
  return absl::UnavailableError(what + ": " + std::strerror(error_number));
}

absl::Status WaitFor(int fd, short events, int wake_fd, SteadyTime deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return absl::DeadlineExceededError("peer is too slow");
    pollfd fds[2] = {{fd, events, 0}, {wake_fd, POLLIN, 0}};
    const int ready = ::poll(fds, wake_fd >= 0 ? 2 : 1,
                             static_cast<int>(std::min<int64_t>(left.count(), 60'000)));
    if (ready < 0 && errno != EINTR) return Broken("poll", errno);
    if (ready <= 0) continue;
    if (wake_fd >= 0 && fds[1].revents != 0) return absl::CancelledError("shutting down");
    if (fds[0].revents != 0) return absl::OkStatus();  // an error shows in the call that follows
  }
}

struct HostPort {
  std::string host, port;
};

absl::StatusOr<HostPort> Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    return absl::InvalidArgumentError("'" + address + "' is not host:port");
  }
  HostPort result{address.substr(0, colon), address.substr(colon + 1)};
  if (result.host.size() > 2 && result.host.front() == '[' && result.host.back() == ']') {
    result.host = result.host.substr(1, result.host.size() - 2);
  }
  return result;
}

using AddressList = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

absl::StatusOr<AddressList> Resolve(const std::string& address, int flags) {
  HostPort parts;
  ASSIGN_OR_RETURN(parts, Split(address));
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (int error = ::getaddrinfo(parts.host.c_str(), parts.port.c_str(), &hints, &list); error != 0) {
    return absl::UnavailableError(address + ": " + ::gai_strerror(error));
  }
  return AddressList(list, ::freeaddrinfo);
}

UniqueFd OpenSocket(const addrinfo& where) {
  return UniqueFd(::socket(where.ai_family, where.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                           where.ai_protocol));
}

absl::Status FinishConnect(int fd, SteadyTime deadline) {
  RETURN_IF_ERROR(WaitFor(fd, POLLOUT, -1, deadline));
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error == 0 ? absl::OkStatus() : Broken("connect", error);
}

}  // namespace

absl::Status SendAll(int fd, const void* data, size_t size, int wake_fd, SteadyTime deadline) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t sent = ::send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes += sent;
      size -= static_cast<size_t>(sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      RETURN_IF_ERROR(WaitFor(fd, POLLOUT, wake_fd, deadline));
    } else if (errno != EINTR) {
      return Broken("send", errno);
    }
  }
  return absl::OkStatus();
}

absl::Status ReceiveAll(int fd, void* data, size_t size, int wake_fd, SteadyTime deadline) {
  char* bytes = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = ::recv(fd, bytes, size, 0);
    if (got == 0) return absl::UnavailableError("peer closed the connection");
    if (got > 0) {
      bytes += got;
      size -= static_cast<size_t>(got);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      RETURN_IF_ERROR(WaitFor(fd, POLLIN, wake_fd, deadline));
    } else if (errno != EINTR) {
      return Broken("receive", errno);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> ConnectTcp(const std::string& address, SteadyTime deadline) {
  AddressList list(nullptr, ::freeaddrinfo);
  ASSIGN_OR_RETURN(list, Resolve(address, 0));
  absl::Status last = absl::UnavailableError("no address");
  for (const addrinfo* where = list.get(); where != nullptr; where = where->ai_next) {
    UniqueFd fd = OpenSocket(*where);
    if (!fd.valid()) {
      last = Broken("socket", errno);
    } else if (::connect(fd.get(), where->ai_addr, where->ai_addrlen) == 0) {
      last = absl::OkStatus();
    } else {
      last = errno == EINPROGRESS ? FinishConnect(fd.get(), deadline) : Broken("connect", errno);
    }
    if (last.ok()) return fd;
  }
  return Annotate(last, address);
}

absl::StatusOr<UniqueFd> ListenTcp(const std::string& bind_address, int backlog) {
  AddressList list(nullptr, ::freeaddrinfo);
  ASSIGN_OR_RETURN(list, Resolve(bind_address, AI_PASSIVE));
  UniqueFd fd = OpenSocket(*list);
  if (!fd.valid()) return Broken(bind_address, errno);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd.get(), list->ai_addr, list->ai_addrlen) != 0) return Broken(bind_address, errno);
  if (::listen(fd.get(), backlog) != 0) return Broken(bind_address, errno);
  return fd;
}

absl::StatusOr<std::string> LocalAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
    return Broken("getsockname", errno);
  }
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (int error = ::getnameinfo(reinterpret_cast<sockaddr*>(&storage), size, host, sizeof(host), port,
                                sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
      error != 0) {
    return absl::InternalError(::gai_strerror(error));
  }
  const bool v6 = storage.ss_family == AF_INET6;
  return (v6 ? "[" : "") + std::string(host) + (v6 ? "]:" : ":") + port;
}

}  // namespace tramontane
