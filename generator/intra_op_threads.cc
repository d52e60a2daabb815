#include "generator/intra_op_threads.h"

#include <ATen/Parallel.h>

#include <thread>

namespace tramontane {

void SetIntraOpThreadsHere(int threads) {
  // Asking first makes ATen initialise this thread; it would otherwise undo the setting at its
  // first parallel region.
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  // OpenMP's and MKL's counts belong to the calling thread, but ATen also remembers the number for
  // threads it meets later. Put that back from a thread whose own counts nobody uses.
  std::thread([before] { at::set_num_threads(before); }).join();
}

}  // namespace tramontane
