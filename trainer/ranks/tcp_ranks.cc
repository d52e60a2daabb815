// Every rank is connected with every other. All at once, each sends to each what that one needs and
// receives its own part: to add up its shard (scatter), or to have everybody's (gather).

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/status.h"
#include "trainer/ranks/transports.h"

namespace tramontane {
namespace {

constexpr size_t kPieceBytes = size_t{2} << 20;  // of one peer, waiting to be added
constexpr int kExchangePollMs = 50;
constexpr int kLastWordsMs = 300;

struct Transfer {
  int peer, fd;
  const char* out;
  size_t out_left;
  char* in;
  size_t in_left;

  bool done() const { return out_left == 0 && in_left == 0; }
};

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

// Moves what can be moved. False: the connection is broken.
bool Advance(Transfer& t) {
  while (t.out_left > 0) {
    const ssize_t sent = ::send(t.fd, t.out, t.out_left, MSG_NOSIGNAL);
    if (sent < 0 && WouldBlock()) break;
    if (sent < 0) return false;
    t.out += sent;
    t.out_left -= static_cast<size_t>(sent);
  }
  while (t.in_left > 0) {
    const ssize_t got = ::recv(t.fd, t.in, t.in_left, 0);
    if (got < 0 && WouldBlock()) break;
    if (got <= 0) return false;
    t.in += got;
    t.in_left -= static_cast<size_t>(got);
  }
  return true;
}

class TcpRanks final : public RankGroup {
 public:
  TcpRanks(RankSeat seat, std::vector<UniqueFd> peers)
      : RankGroup(seat.rank, seat.size),
        timeout_(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
            std::chrono::duration<double>(seat.timeout_s))),
        control_(seat.rank, std::move(seat.control)),
        peers_(std::move(peers)) {
    const int on = 1;
    for (const UniqueFd& peer : peers_) {
      if (peer.valid()) ::setsockopt(peer.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
  }

  void Abort(const std::string& why) override { control_.Abort(why); }
  absl::Status Health() override { return control_.Check(); }

 private:
  absl::Status DoReduceScatter(char* data, const std::vector<Range>& shards,
                               Element element) override {
    size_t longest = 0;
    for (const Range& shard : shards) longest = std::max(longest, shard.size());
    std::vector<std::vector<char>> received(peers_.size());
    for (size_t done = 0; done < longest; done += kPieceBytes) {
      const auto piece = [&](int r) {
        const size_t begin = std::min(shards[r].begin + done, shards[r].end);
        return Range{begin, std::min(begin + kPieceBytes, shards[r].end)};
      };
      const Range mine = piece(rank());
      std::vector<Transfer> transfers;
      for (int peer = 0; peer < size(); ++peer) {
        received[peer].resize(mine.size());
        if (peer == rank()) continue;
        const Range theirs = piece(peer);
        transfers.push_back({peer, peers_[peer].get(), data + theirs.begin, theirs.size(),
                             received[peer].data(), mine.size()});
      }
      RETURN_IF_ERROR(Exchange(std::move(transfers), /*patient=*/false));
      if (mine.size() == 0) continue;
      std::memcpy(received[rank()].data(), data + mine.begin, mine.size());
      std::memcpy(data + mine.begin, received[0].data(), mine.size());
      for (int from = 1; from < size(); ++from) {
        AddElements(data + mine.begin, received[from].data(), mine.size(),
                    element == Element::kDouble);
      }
    }
    return absl::OkStatus();
  }

  absl::Status DoAllGather(char* data, const std::vector<Range>& shards, bool patient) override {
    const Range mine = shards[rank()];
    std::vector<Transfer> transfers;
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      transfers.push_back({peer, peers_[peer].get(), data + mine.begin, mine.size(),
                           data + shards[peer].begin, shards[peer].size()});
    }
    return Exchange(std::move(transfers), patient);
  }

  absl::Status Exchange(std::vector<Transfer> transfers, bool patient) {
    RETURN_IF_ERROR(control_.Check());
    auto deadline = std::chrono::steady_clock::now() + timeout_;
    while (true) {
      std::vector<pollfd> fds;
      int silent = -1;
      for (Transfer& t : transfers) {
        const size_t left = t.out_left + t.in_left;
        if (!t.done() && !Advance(t)) return Broken(t.peer);
        if (t.out_left + t.in_left < left) deadline = std::chrono::steady_clock::now() + timeout_;
        if (t.done()) continue;
        silent = t.peer;
        fds.push_back(
            {t.fd,
             static_cast<short>((t.out_left > 0 ? POLLOUT : 0) | (t.in_left > 0 ? POLLIN : 0)), 0});
      }
      if (fds.empty()) return absl::OkStatus();
      ::poll(fds.data(), fds.size(), kExchangePollMs);
      const absl::Status ended = control_.Check();
      // A peer may send all of it and end for what it learnt: what it sent counts first.
      const bool complete = !ended.ok() && std::ranges::all_of(transfers, [](Transfer& t) {
        return t.done() || (Advance(t) && t.done());
      });
      if (complete) return absl::OkStatus();
      RETURN_IF_ERROR(ended);
      if (!patient && std::chrono::steady_clock::now() > deadline) {
        control_.Abort("rank " + std::to_string(silent) + " is silent");
        return absl::DeadlineExceededError("rank " + std::to_string(silent) +
                                           " has been silent for trainer.rank_timeout_s");
      }
    }
  }

  // The reason comes by the other connection, if there is one.
  absl::Status Broken(int peer) {
    RETURN_IF_ERROR(control_.CheckWithin(kLastWordsMs));
    return absl::UnavailableError("rank " + std::to_string(peer) + " has closed its connection");
  }

  const std::chrono::steady_clock::duration timeout_;
  ControlLinks control_;
  const std::vector<UniqueFd> peers_;
};

}  // namespace

std::unique_ptr<RankGroup> MakeTcpRanks(RankSeat seat, std::vector<UniqueFd> peers) {
  return std::make_unique<TcpRanks>(std::move(seat), std::move(peers));
}

}  // namespace tramontane
