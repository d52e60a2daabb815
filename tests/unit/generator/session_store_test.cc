#include "generator/session_store.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

class SessionStoreTest : public ::testing::Test {
 protected:
  void Pass(double seconds) {
    now_ += std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
  }
  std::string Opened(std::vector<int32_t> tokens) {
    const std::string id = *store_.Open();
    store_.Commit(id, std::move(tokens));
    return id;
  }
  double Ends(const std::string& end) {
    return metrics_.MakeCounter("tramontane_generator_session_ends_total", {{"end", end}}).Value();
  }

  MetricsRegistry metrics_;
  SessionStore::Time now_{};
  SessionStore store_{{.most_sessions = 2, .idle_timeout_s = 10, .now = [this] { return now_; }},
                      metrics_};
};

TEST_F(SessionStoreTest, KeepsWhatWasSaidUntilItIsClosed) {
  const std::string id = Opened({1, 2});
  EXPECT_EQ(*store_.Begin(id), (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(absl::IsAborted(store_.Begin(id).status()));
  EXPECT_TRUE(absl::IsAborted(store_.Close(id)));
  store_.Abandon(id);
  EXPECT_EQ(*store_.Begin(id), (std::vector<int32_t>{1, 2}));
  store_.Commit(id, {1, 2, 3});
  EXPECT_TRUE(store_.Close(id).ok());
  EXPECT_TRUE(absl::IsNotFound(store_.Close(id)));
  EXPECT_TRUE(absl::IsNotFound(store_.Begin(id).status()));
  EXPECT_EQ(Ends("closed"), 1);
}

TEST_F(SessionStoreTest, TheIdleOnesExpireOldestFirstAndBusyOnesNever) {
  const std::string old = Opened({1});
  Pass(6);
  const std::string young = Opened({2});
  EXPECT_TRUE(absl::IsResourceExhausted(store_.Open().status()));
  EXPECT_EQ(metrics_.MakeCounter("tramontane_generator_sessions_refused_total").Value(), 1);
  Pass(5);
  EXPECT_TRUE(absl::IsNotFound(store_.Begin(old).status()));
  ASSERT_TRUE(store_.Begin(young).ok());
  Pass(1000);
  EXPECT_TRUE(store_.Open().ok());
  EXPECT_TRUE(absl::IsResourceExhausted(store_.Open().status()));  // one is busy, one is new
  store_.Commit(young, {2, 3});
  EXPECT_EQ(*store_.Begin(young), (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(Ends("expired"), 1);
}

TEST_F(SessionStoreTest, ATurnThatIsDroppedGivesItsSessionBack) {
  std::string id;
  {
    const auto turn = SessionTurn::Take(store_, "new");
    ASSERT_TRUE(turn.ok());
    id = (*turn)->id();
  }
  EXPECT_TRUE(absl::IsNotFound(store_.Begin(id).status()));  // it never had a turn
  const auto first = SessionTurn::Take(store_, "new");
  (*first)->Commit({1}, {2});
  const auto second = SessionTurn::Take(store_, (*first)->id());
  ASSERT_TRUE(second.ok());
  EXPECT_EQ((*second)->before(), (std::vector<int32_t>{1, 2}));
  (*second)->GiveUp();
  EXPECT_TRUE(store_.Close((*first)->id()).ok());
}

}  // namespace
}  // namespace tramontane
