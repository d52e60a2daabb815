#include "services/verifier/circuit_breaker.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

using State = CircuitBreaker::State;
constexpr CircuitOptions kOptions{
    .failures_to_open = 3, .first_pause_ms = 100, .max_pause_ms = 400};

CircuitBreaker Closed() {
  CircuitBreaker circuit(kOptions);
  circuit.OnProbe(true, 0);
  circuit.OnSuccess(circuit.OnSent());
  return circuit;
}

TEST(CircuitBreakerTest, StartsByProbingAtOnce) {
  CircuitBreaker circuit(kOptions);
  EXPECT_TRUE(circuit.ProbeDue(0));
  EXPECT_FALSE(circuit.Admits());
}

TEST(CircuitBreakerTest, LetsOneRequestThroughAfterAProbeAndAllAfterItsSuccess) {
  CircuitBreaker circuit(kOptions);
  circuit.OnProbe(true, 0);
  EXPECT_EQ(circuit.state(), State::kTrial);
  ASSERT_TRUE(circuit.Admits());
  const int64_t ticket = circuit.OnSent();
  EXPECT_FALSE(circuit.Admits());
  circuit.OnSuccess(ticket);
  EXPECT_EQ(circuit.state(), State::kClosed);
  EXPECT_TRUE(circuit.Admits());
  EXPECT_EQ(circuit.times_opened(), 0);
}

TEST(CircuitBreakerTest, AnAbandonedTrialMakesRoomForAnother) {
  CircuitBreaker circuit(kOptions);
  circuit.OnProbe(true, 0);
  const int64_t ticket = circuit.OnSent();
  EXPECT_FALSE(circuit.Admits());
  circuit.OnAbandoned(ticket);
  EXPECT_TRUE(circuit.Admits());
  EXPECT_EQ(circuit.state(), State::kTrial);
}

TEST(CircuitBreakerTest, OpensAfterFailuresInARowAndNotBefore) {
  CircuitBreaker circuit = Closed();
  circuit.OnFailure(circuit.OnSent(), false, 10);
  circuit.OnFailure(circuit.OnSent(), false, 10);
  circuit.OnSuccess(circuit.OnSent());
  circuit.OnFailure(circuit.OnSent(), false, 10);
  circuit.OnFailure(circuit.OnSent(), false, 10);
  EXPECT_EQ(circuit.state(), State::kClosed);
  circuit.OnFailure(circuit.OnSent(), false, 10);
  EXPECT_EQ(circuit.state(), State::kProbing);
  EXPECT_EQ(circuit.times_opened(), 1);
  EXPECT_FALSE(circuit.ProbeDue(109));
  EXPECT_TRUE(circuit.ProbeDue(110));
}

TEST(CircuitBreakerTest, OneUnreachableServiceIsEnough) {
  CircuitBreaker circuit = Closed();
  circuit.OnFailure(circuit.OnSent(), true, 10);
  EXPECT_EQ(circuit.state(), State::kProbing);
}

TEST(CircuitBreakerTest, OutcomesFromBeforeAnOutageChangeNothing) {
  CircuitBreaker circuit = Closed();
  const int64_t old_a = circuit.OnSent(), old_b = circuit.OnSent(), old_c = circuit.OnSent();
  circuit.OnFailure(old_a, true, 10);
  circuit.OnFailure(old_b, true, 10);  // the same outage, not a second
  EXPECT_EQ(circuit.times_opened(), 1);
  circuit.OnProbe(true, 200);
  circuit.OnFailure(old_c, true, 200);
  EXPECT_EQ(circuit.state(), State::kTrial);
  circuit.OnSuccess(old_c);
  EXPECT_EQ(circuit.state(), State::kTrial);
}

TEST(CircuitBreakerTest, PausesDoubleUpToTheirBoundAndStartAfreshAfterSuccess) {
  CircuitBreaker circuit = Closed();
  circuit.OnFailure(circuit.OnSent(), true, 0);
  int64_t now = 0;
  for (const int64_t pause : {100, 200, 400, 400}) {
    EXPECT_FALSE(circuit.ProbeDue(now + pause - 1)) << pause;
    now += pause;
    ASSERT_TRUE(circuit.ProbeDue(now)) << pause;
    circuit.OnProbe(false, now);
  }
  circuit.OnProbe(true, now);
  circuit.OnSuccess(circuit.OnSent());
  circuit.OnFailure(circuit.OnSent(), true, now);
  EXPECT_TRUE(circuit.ProbeDue(now + 100));
}

TEST(CircuitBreakerTest, AFailedTrialOpensAgainWithALongerPause) {
  CircuitBreaker circuit = Closed();
  circuit.OnFailure(circuit.OnSent(), true, 0);
  circuit.OnProbe(true, 100);
  circuit.OnFailure(circuit.OnSent(), false, 100);
  EXPECT_EQ(circuit.state(), State::kProbing);
  EXPECT_FALSE(circuit.ProbeDue(299));
  EXPECT_TRUE(circuit.ProbeDue(300));
}

}  // namespace
}  // namespace tramontane
