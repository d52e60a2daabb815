#include "model/fused/thread_team.h"

#include <sched.h>

#include <algorithm>

namespace tramontane {
namespace {

// A pause instruction takes some 40 ns here, a yield about a microsecond when nobody else wants
// the core: 40 µs of spinning, then some 200 µs of yielding, then sleep.
constexpr uint32_t kSpins = 1000, kYields = 200;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

constexpr uint64_t Pack(uint32_t stage, uint32_t first, uint32_t end) {
  return (uint64_t{stage} << 32) | (first << 16) | end;
}
constexpr uint32_t First(uint64_t open) { return (open >> 16) & 0xFFFF; }
constexpr uint32_t End(uint64_t open) { return open & 0xFFFF; }
constexpr bool HasWork(uint64_t open) { return First(open) < End(open); }

int AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

// Not pinned: a helper bound to the core that its caller happens to run on could only wait for it.
ThreadTeam::ThreadTeam(int members) {
  const int helpers = std::clamp(members, 1, std::max(1, AllowedCpus())) - 1;
  for (int member = 1; member <= helpers; ++member)
    helpers_.emplace_back([this, member] { Help(member); });
}

ThreadTeam::~ThreadTeam() {
  stopping_.store(true);
  bell_.fetch_add(1);
  bell_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadTeam::Run(int chunks, void* context, Work work) {
  work_ = work;
  context_ = context;
  unfinished_.store(chunks, std::memory_order_relaxed);
  // Sequentially consistent with the sleepers' own check: either they see the work, or we see them.
  open_.store(Pack(++stage_, 0, static_cast<uint32_t>(chunks)));
  if (sleeping_.load() > 0) {
    bell_.fetch_add(1);
    bell_.notify_all();
  }
  for (int chunk; (chunk = ClaimFirst()) >= 0;) {
    work(context, chunk, 0);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }
  for (uint32_t spins = 0; unfinished_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      Pause();
    } else {
      ::sched_yield();
    }
  }
}

int ThreadTeam::ClaimFirst() {
  uint64_t open = open_.load(std::memory_order_relaxed);
  while (HasWork(open)) {
    if (open_.compare_exchange_weak(open, open + (uint64_t{1} << 16), std::memory_order_acq_rel,
                                    std::memory_order_relaxed))
      return static_cast<int>(First(open));
  }
  return -1;
}

int ThreadTeam::ClaimLast() {
  uint64_t open = open_.load(std::memory_order_relaxed);
  while (HasWork(open)) {
    if (open_.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel,
                                    std::memory_order_relaxed))
      return static_cast<int>(End(open)) - 1;
  }
  return -1;
}

void ThreadTeam::Help(int member) {
  for (uint32_t idle = 0; !stopping_.load(std::memory_order_relaxed);) {
    if (const int chunk = ClaimLast(); chunk >= 0) {
      work_(context_, chunk, member);
      unfinished_.fetch_sub(1, std::memory_order_release);
      idle = 0;
    } else {
      WaitForWork(idle);
    }
  }
}

void ThreadTeam::WaitForWork(uint32_t& idle) {
  ++idle;
  if (idle < kSpins) return Pause();
  if (idle < kSpins + kYields) {
    ::sched_yield();
    return;
  }
  const uint32_t bell = bell_.load();
  sleeping_.fetch_add(1);
  if (!HasWork(open_.load()) && !stopping_.load()) bell_.wait(bell);
  sleeping_.fetch_sub(1);
  idle = 0;
}

}  // namespace tramontane
