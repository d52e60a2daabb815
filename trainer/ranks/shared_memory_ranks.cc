// Each rank has a slot of two halves that it alone writes. A round: write to the half whose turn it
// is, meet the others, read from theirs. The half of round k is written again in round k + 2, and
// whoever has met the others in round k + 1 has read what it wanted of round k: one meeting a round
// is enough.

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/files.h"
#include "common/status.h"
#include "trainer/ranks/transports.h"

namespace tramontane {
namespace {

constexpr size_t kHalfBytes = size_t{1} << 20;
constexpr size_t kLine = 64;
constexpr int kSpins = 200;
// How long the death of a rank may go unnoticed by one that waits for another.
constexpr int64_t kWaitNs = 10'000'000;

// The number of rounds that a rank has come to. A line each, so that ranks do not share them.
struct alignas(kLine) Arrived {
  std::atomic<uint32_t> rounds;
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

size_t HeaderBytes(int ranks) { return sizeof(Arrived) * static_cast<size_t>(ranks); }
size_t MemoryBytes(int ranks) {
  return HeaderBytes(ranks) + 2 * kHalfBytes * static_cast<size_t>(ranks);
}

long Futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  return ::syscall(SYS_futex, &word, operation, value, timeout, nullptr, 0);
}

class SharedMemoryRanks final : public RankGroup {
 public:
  SharedMemoryRanks(RankSeat seat, RankMemory memory)
      : RankGroup(seat.rank, seat.size),
        timeout_(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
            std::chrono::duration<double>(seat.timeout_s))),
        control_(seat.rank, std::move(seat.control)),
        memory_(std::move(memory)),
        arrived_(reinterpret_cast<Arrived*>(memory_.data())),
        slots_(memory_.data() + HeaderBytes(seat.size)) {}

  void Abort(const std::string& why) override { control_.Abort(why); }
  absl::Status Health() override { return control_.Check(); }

 private:
  absl::Status DoReduceScatter(char* data, const std::vector<Range>& shards,
                               Element element) override {
    // A half holds a piece for each rank.
    const size_t piece = kHalfBytes / static_cast<size_t>(size()) / kLine * kLine;
    for (size_t done = 0; done < Longest(shards); done += piece) {
      for (int to = 0; to < size(); ++to) {
        const Range part = Piece(shards[to], done, piece);
        std::memcpy(Half(rank()) + piece * to, data + part.begin, part.size());
      }
      RETURN_IF_ERROR(Meet(/*patient=*/false));
      const Range mine = Piece(shards[rank()], done, piece);
      std::memcpy(data + mine.begin, Half(0) + piece * rank(), mine.size());
      for (int from = 1; from < size(); ++from) {
        AddElements(data + mine.begin, Half(from) + piece * rank(), mine.size(),
                    element == Element::kDouble);
      }
      ++round_;
    }
    return absl::OkStatus();
  }

  absl::Status DoAllGather(char* data, const std::vector<Range>& shards, bool patient) override {
    for (size_t done = 0; done < Longest(shards); done += kHalfBytes) {
      const Range mine = Piece(shards[rank()], done, kHalfBytes);
      std::memcpy(Half(rank()), data + mine.begin, mine.size());
      RETURN_IF_ERROR(Meet(patient));
      for (int from = 0; from < size(); ++from) {
        const Range part = Piece(shards[from], done, kHalfBytes);
        if (from != rank()) std::memcpy(data + part.begin, Half(from), part.size());
      }
      ++round_;
    }
    return absl::OkStatus();
  }

  static size_t Longest(const std::vector<Range>& shards) {
    size_t longest = 0;
    for (const Range& shard : shards) longest = std::max(longest, shard.size());
    return longest;
  }

  static Range Piece(const Range& shard, size_t done, size_t most) {
    const size_t begin = std::min(shard.begin + done, shard.end);
    return {begin, std::min(begin + most, shard.end)};
  }

  char* Half(int rank) const {
    return slots_ + kHalfBytes * (2 * static_cast<size_t>(rank) + round_ % 2);
  }

  // Until every rank has come to this round.
  absl::Status Meet(bool patient) {
    RETURN_IF_ERROR(control_.Check());
    const uint32_t now = static_cast<uint32_t>(round_) + 1;
    arrived_[rank()].rounds.store(now, std::memory_order_release);
    Futex(arrived_[rank()].rounds, FUTEX_WAKE, INT32_MAX, nullptr);
    const auto deadline = std::chrono::steady_clock::now() + timeout_;
    for (int peer = 0; peer < size(); ++peer) {
      std::atomic<uint32_t>& rounds = arrived_[peer].rounds;
      int spins = 0;
      uint32_t seen;
      while (static_cast<int32_t>((seen = rounds.load(std::memory_order_acquire)) - now) < 0) {
        if (++spins < kSpins) continue;
        const timespec wait{0, kWaitNs};
        Futex(rounds, FUTEX_WAIT, seen, &wait);
        const absl::Status ended = control_.Check();
        // A peer may come to this round and end for what it learnt there: it counts first.
        if (static_cast<int32_t>(rounds.load(std::memory_order_acquire) - now) >= 0) break;
        RETURN_IF_ERROR(ended);
        if (!patient && std::chrono::steady_clock::now() > deadline) {
          control_.Abort("rank " + std::to_string(peer) + " is silent");
          return absl::DeadlineExceededError("rank " + std::to_string(peer) +
                                             " has been silent for trainer.rank_timeout_s");
        }
      }
    }
    return absl::OkStatus();
  }

  const std::chrono::steady_clock::duration timeout_;
  ControlLinks control_;
  const RankMemory memory_;
  Arrived* const arrived_;
  char* const slots_;
  uint64_t round_ = 0;
};

}  // namespace

RankMemory::RankMemory(UniqueFd fd, char* data, size_t bytes)
    : fd_(std::move(fd)), data_(data), bytes_(bytes) {}

RankMemory::RankMemory(RankMemory&& other) noexcept
    : fd_(std::move(other.fd_)), data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}

RankMemory::~RankMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

std::string RankMemory::path() const {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_.get());
}

absl::StatusOr<RankMemory> RankMemory::Make(int ranks) {
  UniqueFd fd(::memfd_create("tramontane-ranks", MFD_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "memory that ranks share");
  const size_t bytes = MemoryBytes(ranks);
  // Reserved now, so that a full machine is an error here and not a signal later.
  if (const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes)); error != 0)
    return ErrnoStatus(error, "memory that ranks share");
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return ErrnoStatus(errno, "memory that ranks share");
  return RankMemory(std::move(fd), static_cast<char*>(data), bytes);
}

absl::StatusOr<RankMemory> RankMemory::Open(const std::string& path, int ranks) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    return Annotate(ErrnoStatus(errno, path),
                    "trainer.rank_transport shared_memory needs all ranks on one host");
  }
  const size_t bytes = MemoryBytes(ranks);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0 || static_cast<size_t>(info.st_size) != bytes)
    return absl::DataLossError(path + ": is not the memory of " + std::to_string(ranks) + " ranks");
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return ErrnoStatus(errno, path);
  return RankMemory(std::move(fd), static_cast<char*>(data), bytes);
}

std::unique_ptr<RankGroup> MakeSharedMemoryRanks(RankSeat seat, RankMemory memory) {
  return std::make_unique<SharedMemoryRanks>(std::move(seat), std::move(memory));
}

}  // namespace tramontane
