#include "trainer/ledger/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/files.h"
#include "tests/support/redis_server.h"

namespace tramontane {
namespace {

JournalRecord Batch(int64_t step) {
  JournalRecord record;
  record.kind = "batch";
  record.epoch = 3;
  record.step = step;
  for (int i = 0; i < 3; ++i) {
    record.gids.push_back("gid" + std::to_string(step * 10 + i));
    record.blobs.push_back("blob" + std::to_string(step * 10 + i));
    record.cursors.push_back(static_cast<uint64_t>(step * 10 + i));
  }
  return record;
}

class JournalTest : public testing::Test {
 protected:
  std::string Path() const { return dir_.path() + "/journal.jsonl"; }
  std::string Bytes() const { return ReadFile(Path()).value(); }
  void Overwrite(const std::string& bytes) { std::ofstream(Path(), std::ios::binary) << bytes; }
  // `count` records, one more at each line.
  void Write(int count) {
    auto journal = Journal::Open(Path()).value();
    for (int i = 1; i <= count; ++i) ASSERT_TRUE(journal->Append(Batch(i), i % 2 == 0).ok());
  }
  TempDir dir_;
};

TEST_F(JournalTest, RecordsComeBackAsTheyWereAppended) {
  Write(3);
  JournalRecord drop;
  drop.kind = "drop";
  drop.epoch = 4;
  drop.gids = {"x"};
  drop.cursors = {18446744073709551615ull};
  drop.detail = {{"reason", "dead: \"quotes\"\nand\thash\":\""}};
  std::string head;
  {
    auto journal = Journal::Open(Path()).value();
    ASSERT_TRUE(journal->Append(drop, true).ok());
    EXPECT_EQ(journal->size(), 4);
    head = journal->head();
  }
  auto journal = Journal::Open(Path()).value();
  ASSERT_EQ(journal->records().size(), 4u);
  EXPECT_EQ(journal->records()[1], Batch(2));
  EXPECT_EQ(journal->records()[3], drop);
  EXPECT_EQ(journal->head(), head);
  EXPECT_TRUE(journal->Contains(4, head));
  EXPECT_TRUE(journal->Contains(0, ""));
  EXPECT_FALSE(journal->Contains(3, head));
  EXPECT_FALSE(journal->Contains(5, head));
  EXPECT_EQ(Journal::Read(Path()).value().size(), 4u);
}

TEST_F(JournalTest, ATornTailIsCutOffWhereverItIsTorn) {
  Write(3);
  const std::string whole = Bytes();
  const size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  for (size_t size = last; size < whole.size(); size += size + 9 < whole.size() ? 9 : 1) {
    Overwrite(whole.substr(0, size));
    EXPECT_EQ(Journal::Read(Path()).value().size(), 2u) << size;
    auto journal = Journal::Open(Path()).value();
    ASSERT_EQ(journal->records().size(), 2u) << size;
    ASSERT_TRUE(journal->Append(Batch(3), true).ok());
    EXPECT_EQ(Bytes(), whole) << size;
  }
}

TEST_F(JournalTest, EveryFlippedByteIsNoticed) {
  Write(3);
  const std::string whole = Bytes();
  for (size_t i = 0; i + 1 < whole.size(); ++i) {  // the last newline makes a torn tail
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    Overwrite(damaged);
    EXPECT_EQ(Journal::Read(Path()).status().code(), absl::StatusCode::kDataLoss) << i;
  }
}

TEST_F(JournalTest, AMissingOrSwappedRecordBreaksTheChain) {
  Write(3);
  const std::string whole = Bytes();
  const size_t one = whole.find('\n') + 1, two = whole.find('\n', one) + 1;
  Overwrite(whole.substr(0, one) + whole.substr(two));
  EXPECT_EQ(Journal::Open(Path()).status().code(), absl::StatusCode::kDataLoss);
  Overwrite(whole.substr(one));
  EXPECT_EQ(Journal::Open(Path()).status().code(), absl::StatusCode::kDataLoss);
  Overwrite(whole.substr(one, two - one) + whole.substr(0, one) + whole.substr(two));
  EXPECT_EQ(Journal::Open(Path()).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(JournalTest, HasOneOwnerAtATime) {
  auto journal = Journal::Open(Path()).value();
  EXPECT_EQ(Journal::Open(Path()).status().code(), absl::StatusCode::kFailedPrecondition);
  journal.reset();
  EXPECT_TRUE(Journal::Open(Path()).ok());
}

// The file size limit stands in for a full disk: the write stops in the middle of a record.
TEST_F(JournalTest, ARecordThatDoesNotFitIsTakenBack) {
  Write(2);
  const size_t before = Bytes().size();
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    auto journal = Journal::Open(Path()).value();
    const rlimit limit{before + 100, before + 100};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const absl::Status status = journal->Append(Batch(3), true);
    const bool refused = status.code() == absl::StatusCode::kResourceExhausted;
    const bool whole = std::filesystem::file_size(Path()) == before;
    ::_exit(refused && whole ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  auto journal = Journal::Open(Path()).value();
  EXPECT_EQ(journal->records().size(), 2u);
  EXPECT_TRUE(journal->Append(Batch(3), true).ok());
}

}  // namespace
}  // namespace tramontane
