#include "common/mailbox.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace tramontane {
namespace {

using namespace std::chrono_literals;

TEST(Mailbox, IsBoundedAndFirstInFirstOut) {
  Mailbox<int> box(2);
  EXPECT_TRUE(box.TryPush(1));
  EXPECT_TRUE(box.TryPush(2));
  EXPECT_FALSE(box.TryPush(3));
  EXPECT_EQ(box.TryPop(), 1);
  EXPECT_EQ(box.TryPop(), 2);
  EXPECT_EQ(box.TryPop(), std::nullopt);
}

TEST(Mailbox, ARefusedItemStaysWithItsOwner) {
  Mailbox<std::unique_ptr<int>> box(1);
  auto first = std::make_unique<int>(1), second = std::make_unique<int>(2);
  ASSERT_TRUE(box.TryPush(std::move(first)));
  EXPECT_FALSE(box.Push(std::move(second), 1ms));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, 2);
}

TEST(Mailbox, ClosingWakesWaitersAndKeepsWhatIsInside) {
  Mailbox<int> box(1);
  box.TryPush(7);
  std::thread pusher([&] { EXPECT_FALSE(box.Push(8, 10s)); });
  std::this_thread::sleep_for(10ms);
  box.Close();
  pusher.join();
  EXPECT_EQ(box.Pop(0ms), 7);
  EXPECT_EQ(box.Pop(10s), std::nullopt);  // returns at once: closed and drained
}

TEST(Mailbox, NothingIsLostBetweenManyThreads) {
  Mailbox<int> box(8);
  constexpr int kEach = 1000;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) ASSERT_TRUE(box.Push(t * kEach + i, 10s));
    });
  }
  std::vector<bool> seen(3 * kEach);
  for (int i = 0; i < 3 * kEach; ++i) {
    auto item = box.Pop(10s);
    ASSERT_TRUE(item.has_value());
    EXPECT_FALSE(seen[static_cast<size_t>(*item)]);
    seen[static_cast<size_t>(*item)] = true;
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace tramontane
