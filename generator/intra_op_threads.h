// ATen's thread count for one thread of ours.
#pragma once

namespace tramontane {

// Sets how many threads ATen uses for what the calling thread computes. Other threads, and those
// started later, keep what they had.
void SetIntraOpThreadsHere(int threads);

}  // namespace tramontane
