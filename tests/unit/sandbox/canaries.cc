#include "tests/unit/sandbox/canaries.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

namespace tramontane {
namespace {

namespace fs = std::filesystem;

UniqueFd Inet(int type, int& port) {
  UniqueFd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  socklen_t size = sizeof address;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  port = ntohs(address.sin_port);
  if (type == SOCK_STREAM) listen(fd.get(), 8);
  return fd;
}

// `path`: a file, or an abstract name when it begins with a zero byte.
UniqueFd Unix(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size);
  listen(fd.get(), 8);
  return fd;
}

bool Readable(const UniqueFd& fd) {
  pollfd ready{fd.get(), POLLIN, 0};
  return poll(&ready, 1, 0) > 0;
}

std::string Read(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool HasLitter(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().find(kLitter) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

Canaries::Canaries() {
  std::string folder = "/tmp/tramontane-canary-XXXXXX";
  targets_.folder = mkdtemp(folder.data());
  chmod(folder.c_str(), 0777);
  targets_.secret = "SECRET-" + folder.substr(folder.size() - 6) + "-CANARY";
  targets_.secret_file = folder + "/secret.txt";
  std::ofstream(targets_.secret_file) << targets_.secret;
  chmod(targets_.secret_file.c_str(), 0666);
  setenv("TRAMONTANE_CANARY", targets_.secret.c_str(), 1);
  tcp_ = Inet(SOCK_STREAM, targets_.tcp_port);
  udp_ = Inet(SOCK_DGRAM, targets_.udp_port);
  targets_.unix_socket = folder + "/socket";
  unix_ = Unix(targets_.unix_socket);
  chmod(targets_.unix_socket.c_str(), 0777);
  targets_.abstract_socket = folder.substr(5);
  abstract_ = Unix(std::string(1, '\0') + targets_.abstract_socket);
  targets_.pid = getpid();
}

Canaries::~Canaries() {
  unsetenv("TRAMONTANE_CANARY");
  std::error_code ignored;
  fs::remove_all(targets_.folder, ignored);
}

std::string Canaries::Touched() const {
  if (Read(targets_.secret_file) != targets_.secret) return "the secret file";
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(targets_.folder)) {
    names.insert(entry.path().filename());
  }
  if (names != std::set<std::string>{"secret.txt", "socket"}) return "the open folder";
  if (Readable(tcp_)) return "the TCP port";
  if (Readable(udp_)) return "the UDP port";
  if (Readable(unix_)) return "the unix socket";
  if (Readable(abstract_)) return "the abstract socket";
  for (const char* folder : {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/", "/usr", "/dev"}) {
    if (HasLitter(folder)) return folder;
  }
  // Key 0x7e5 of the shmget, semget and msgget attacks.
  for (const char* table : {"/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"}) {
    if (Read(table).find("\n      2021 ") != std::string::npos) return table;
  }
  return "";
}

int Descendants(int pid) {
  const std::string process = std::to_string(pid);
  std::istringstream children(Read("/proc/" + process + "/task/" + process + "/children"));
  int count = 0;
  for (int child = 0; children >> child;) count += 1 + Descendants(child);
  return count;
}

}  // namespace tramontane
