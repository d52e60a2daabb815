// Time as an injected collaborator, so that leases and deadlines can be tested without waiting.
#pragma once

#include <chrono>
#include <cstdint>

namespace tramontane {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t NowMonotonicMs() const = 0;
  virtual int64_t NowUnixMs() const = 0;
};

class SystemClock final : public Clock {
 public:
  int64_t NowMonotonicMs() const override {
    return Ms(std::chrono::steady_clock::now().time_since_epoch());
  }
  int64_t NowUnixMs() const override { return Ms(std::chrono::system_clock::now().time_since_epoch()); }

 private:
  template <class D>
  static int64_t Ms(D d) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
  }
};

inline double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace tramontane
