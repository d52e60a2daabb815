// A few threads that share out one stage of a computation after the other, with waits of a fraction
// of a microsecond between them.
//
// The caller takes chunks from the front, its helpers from the back, until all are done; a helper
// that the system has put aside holds nobody up but with the chunk it is in the middle of. So on
// cores that are shared with others the caller simply does more of the work itself. Helpers spin
// for a moment when there is nothing to do, then yield, then sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace tramontane {

class ThreadTeam {
 public:
  // At most one member for each CPU that this process may run on; the caller of For is one of
  // them.
  explicit ThreadTeam(int members);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int members() const { return static_cast<int>(helpers_.size()) + 1; }

  // work(chunk, member) once for each chunk in [0, chunks), chunks ≤ 65535; returns when all are
  // done. One caller at a time; `work` must not throw.
  template <class F>
  void For(int chunks, F&& work) {
    if (helpers_.empty() || chunks <= 1) {
      for (int chunk = 0; chunk < chunks; ++chunk) work(chunk, 0);
      return;
    }
    Run(chunks, &work, [](void* context, int chunk, int member) {
      (*static_cast<std::remove_reference_t<F>*>(context))(chunk, member);
    });
  }

 private:
  using Work = void (*)(void* context, int chunk, int member);

  void Run(int chunks, void* context, Work work);
  void Help(int member);
  int ClaimFirst();
  int ClaimLast();
  void WaitForWork(uint32_t& idle);

  // The chunks nobody has claimed: {stage number, first, end}, in one word so that a claim can
  // only succeed in the stage it was meant for.
  alignas(64) std::atomic<uint64_t> open_{0};
  alignas(64) std::atomic<int> unfinished_{0};
  // Of the open stage; written before it opens, read only with a claim in hand.
  Work work_ = nullptr;
  void* context_ = nullptr;
  uint32_t stage_ = 0;
  alignas(64) std::atomic<int> sleeping_{0};
  std::atomic<uint32_t> bell_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> helpers_;
};

}  // namespace tramontane
