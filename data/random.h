// Random numbers that are the same on every platform (the standard's distributions are not).
// One thread.
#pragma once

#include <cstdint>
#include <random>

namespace tramontane {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  // Uniform in [0, bound); bound > 0.
  uint64_t Below(uint64_t bound) {
    const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;  // a multiple of bound: no bias
    uint64_t draw;
    do {
      draw = engine_();
    } while (draw >= limit);
    return draw % bound;
  }
  int Between(int low, int high) { return low + static_cast<int>(Below(high - low + 1)); }
  bool Chance(double p) { return static_cast<double>(engine_() >> 11) * 0x1.0p-53 < p; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace tramontane
