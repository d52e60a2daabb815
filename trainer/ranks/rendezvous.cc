// Frames of JSON. To rank 0: {"format", "token", "rank", "data_address"}. From it: {"refused":
// why}, or when all have come {"size", "timeout_s", "memory" (a path; TCP: empty),
// "data_addresses"}. With shared memory, back to rank 0: {"failed": why}, empty once the memory is
// mapped. A connection between two ranks for TCP begins with {"token", "rank"}, sent by the higher
// one.

#include "trainer/ranks/rendezvous.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "common/host_port.h"
#include "common/log.h"
#include "common/rollout.h"
#include "common/status.h"
#include "trainer/ranks/transports.h"

namespace tramontane {
namespace {

constexpr int kFormat = 2;
constexpr int kBacklog = 128;
constexpr int kPollMs = 100;
constexpr double kFrameTimeoutS = 5;

SteadyTime In(double seconds) {
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<std::chrono::steady_clock::duration>(
             std::chrono::duration<double>(seconds));
}

absl::StatusOr<Json> ReceiveJson(int fd, SteadyTime deadline) {
  ASSIGN_OR_RETURN(const std::string text, ReceiveFrame(fd, deadline));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError("a peer that is no rank");
  return json;
}

template <class T>
T Field(const Json& json, const char* name, T otherwise) {
  try {
    return json.value(name, otherwise);
  } catch (const Json::exception&) {
    return otherwise;
  }
}

// The next connection, within kPollMs.
UniqueFd AcceptSoon(int listener) {
  pollfd fd{listener, POLLIN, 0};
  if (::poll(&fd, 1, kPollMs) <= 0) return UniqueFd();
  return UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

// Connections to all other ranks: this one dials the lower, the higher dial it.
absl::StatusOr<std::vector<UniqueFd>> MeetPeers(int rank, const std::string& token, int listener,
                                                const std::vector<std::string>& addresses,
                                                SteadyTime deadline) {
  std::vector<UniqueFd> peers(addresses.size());
  for (int peer = 0; peer < rank; ++peer) {
    ASSIGN_OR_RETURN(peers[peer], ConnectTcp(addresses[peer], deadline));
    const Json hello = {{"token", token}, {"rank", rank}};
    RETURN_IF_ERROR(SendFrame(peers[peer].get(), hello.dump(), deadline));
  }
  const int size = static_cast<int>(addresses.size());
  for (int missing = size - 1 - rank; missing > 0;) {
    if (std::chrono::steady_clock::now() > deadline)
      return absl::DeadlineExceededError("ranks could not connect with each other in time");
    UniqueFd fd = AcceptSoon(listener);
    if (!fd.valid()) continue;
    const absl::StatusOr<Json> hello = ReceiveJson(fd.get(), In(kFrameTimeoutS));
    const int peer = hello.ok() ? Field(*hello, "rank", -1) : -1;
    if (peer <= rank || peer >= size || peers[peer].valid() ||
        Field(*hello, "token", std::string()) != token) {
      LogWarn("rank_connection_refused", {{"claims_rank", peer}});
      continue;
    }
    peers[peer] = std::move(fd);
    --missing;
  }
  return peers;
}

// What a newcomer may not be; empty: it may come.
std::string WhyNot(const Json& hello, const std::string& token,
                   const std::vector<UniqueFd>& taken) {
  if (Field(hello, "token", std::string()) != token) return "the token is another one";
  if (Field(hello, "format", 0) != kFormat) return "it speaks another version of the protocol";
  const int rank = Field(hello, "rank", -1), size = static_cast<int>(taken.size());
  if (rank < 1 || rank >= size) {
    return "trainer.ranks is " + std::to_string(size) + ": there is no rank " +
           std::to_string(rank);
  }
  if (taken[rank].valid()) return "rank " + std::to_string(rank) + " is here already";
  return "";
}

std::string Missing(const std::vector<UniqueFd>& control) {
  std::string list;
  for (size_t r = 1; r < control.size(); ++r) {
    if (!control[r].valid()) list += (list.empty() ? "" : ", ") + std::to_string(r);
  }
  return list;
}

// Until every other rank has mapped the memory: its path leads nowhere once rank 0 has ended.
absl::Status AwaitMapped(const std::vector<UniqueFd>& control, SteadyTime deadline) {
  for (size_t r = 1; r < control.size(); ++r) {
    const std::string who = "rank " + std::to_string(r);
    absl::StatusOr<Json> reply = ReceiveJson(control[r].get(), deadline);
    if (!reply.ok()) return Annotate(reply.status(), who);
    if (const std::string why = Field(*reply, "failed", std::string()); !why.empty())
      return absl::UnavailableError(who + ": " + why);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RankHost> RankHost::Listen(const std::string& bind, std::string token) {
  ASSIGN_OR_RETURN(UniqueFd listener, ListenTcp(bind, kBacklog));
  ASSIGN_OR_RETURN(std::string address, LocalAddress(listener.get()));
  return RankHost(std::move(listener), std::move(address), std::move(token));
}

absl::StatusOr<std::unique_ptr<RankGroup>> RankHost::Await(
    const RankOptions& options, const std::function<absl::Status()>& possible) const {
  const SteadyTime deadline = In(options.join_timeout_s);
  RankSeat seat{0, options.size, options.timeout_s, {}};
  seat.control.resize(static_cast<size_t>(options.size));
  ASSIGN_OR_RETURN(const UniqueFd listener, ListenTcp(HostOf(address_) + ":0", kBacklog));
  std::vector<std::string> addresses(static_cast<size_t>(options.size));
  ASSIGN_OR_RETURN(addresses[0], LocalAddress(listener.get()));
  while (!Missing(seat.control).empty()) {
    RETURN_IF_ERROR(possible());
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError("trainer.ranks: rank " + Missing(seat.control) + " of " +
                                         std::to_string(options.size) + " did not join at " +
                                         address_ + " within trainer.rank_join_timeout_s");
    }
    UniqueFd fd = AcceptSoon(listener_.get());
    if (!fd.valid()) continue;
    const absl::StatusOr<Json> hello = ReceiveJson(fd.get(), In(kFrameTimeoutS));
    const std::string why =
        hello.ok() ? WhyNot(*hello, token_, seat.control) : hello.status().ToString();
    if (!why.empty()) {
      LogWarn("rank_refused", {{"why", why}});
      SendFrame(fd.get(), Json{{"refused", why}}.dump(), In(kFrameTimeoutS)).IgnoreError();
      continue;
    }
    const int rank = hello->at("rank").get<int>();
    addresses[rank] = Field(*hello, "data_address", std::string());
    seat.control[rank] = std::move(fd);
  }

  std::optional<RankMemory> memory;
  if (options.shared_memory) {
    ASSIGN_OR_RETURN(RankMemory made, RankMemory::Make(options.size));
    memory.emplace(std::move(made));
  }
  const Json welcome = {{"size", options.size},
                        {"timeout_s", options.timeout_s},
                        {"memory", memory ? memory->path() : ""},
                        {"data_addresses", addresses}};
  for (const UniqueFd& fd : seat.control) {
    if (fd.valid()) RETURN_IF_ERROR(SendFrame(fd.get(), welcome.dump(), In(kFrameTimeoutS)));
  }
  if (memory) {
    RETURN_IF_ERROR(AwaitMapped(seat.control, deadline));
    return MakeSharedMemoryRanks(std::move(seat), *std::move(memory));
  }
  ASSIGN_OR_RETURN(std::vector<UniqueFd> peers,
                   MeetPeers(0, token_, listener.get(), addresses, deadline));
  return MakeTcpRanks(std::move(seat), std::move(peers));
}

absl::StatusOr<std::unique_ptr<RankGroup>> JoinRanks(const std::string& address, int rank,
                                                     const std::string& token, double timeout_s) {
  const SteadyTime deadline = In(timeout_s);
  absl::StatusOr<UniqueFd> control = ConnectTcp(address, deadline);
  while (!control.ok()) {
    if (absl::IsInvalidArgument(control.status())) return control.status();
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError("rank 0 does not listen: " +
                                         std::string(control.status().message()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
    control = ConnectTcp(address, deadline);
  }
  ASSIGN_OR_RETURN(const std::string here, LocalAddress(control->get()));
  ASSIGN_OR_RETURN(const UniqueFd listener, ListenTcp(HostOf(here) + ":0", kBacklog));
  ASSIGN_OR_RETURN(const std::string data_address, LocalAddress(listener.get()));
  const Json hello = {
      {"format", kFormat}, {"token", token}, {"rank", rank}, {"data_address", data_address}};
  RETURN_IF_ERROR(SendFrame(control->get(), hello.dump(), deadline));
  ASSIGN_OR_RETURN(const Json welcome, ReceiveJson(control->get(), deadline));
  if (welcome.contains("refused")) {
    return absl::FailedPreconditionError("rank 0 refuses this rank: " +
                                         Field(welcome, "refused", std::string()));
  }
  RankSeat seat{rank, Field(welcome, "size", 0), Field(welcome, "timeout_s", 0.0), {}};
  const auto addresses = Field(welcome, "data_addresses", std::vector<std::string>());
  if (seat.size <= rank || static_cast<int>(addresses.size()) != seat.size)
    return absl::DataLossError(address + ": is no rank 0");
  seat.control.push_back(*std::move(control));
  if (const std::string path = Field(welcome, "memory", std::string()); !path.empty()) {
    absl::StatusOr<RankMemory> memory = RankMemory::Open(path, seat.size);
    const Json reply = {{"failed", memory.ok() ? "" : std::string(memory.status().message())}};
    RETURN_IF_ERROR(SendFrame(seat.control[0].get(), reply.dump(), deadline));
    if (!memory.ok()) return memory.status();
    return MakeSharedMemoryRanks(std::move(seat), *std::move(memory));
  }
  ASSIGN_OR_RETURN(std::vector<UniqueFd> peers,
                   MeetPeers(rank, token, listener.get(), addresses, deadline));
  return MakeTcpRanks(std::move(seat), std::move(peers));
}

}  // namespace tramontane
