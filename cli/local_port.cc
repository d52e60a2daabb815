#include "cli/local_port.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace tramontane {

absl::StatusOr<int> FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool found = fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  if (fd >= 0) ::close(fd);
  if (!found) return absl::UnavailableError("no free loopback port");
  return static_cast<int>(ntohs(address.sin_port));
}

}  // namespace tramontane
