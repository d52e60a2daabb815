#include "common/files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/file_stamp.h"
#include "common/hash.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

class Files : public ::testing::Test {
 protected:
  const TempDir temp_;
  const fs::path dir_ = temp_.path();
};

TEST_F(Files, WhatWasWrittenIsReadAndNoTemporaryIsLeft) {
  const std::string path = dir_ / "a";
  const std::string bytes("x\0y", 3);
  ASSERT_TRUE(WriteFileAtomic(path, bytes).ok());
  EXPECT_EQ(*ReadFile(path), bytes);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);
}

TEST_F(Files, AFailedWriteKeepsTheOldContentsAndLeavesNothing) {
  const std::string path = dir_ / "folder";
  fs::create_directories(fs::path(path) / "inside");
  EXPECT_FALSE(WriteFileAtomic(path, "x").ok());  // rename over a non-empty folder fails
  EXPECT_TRUE(fs::is_directory(path));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);
}

TEST_F(Files, AFullDiskIsNamedAsSuch) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  EXPECT_EQ(ErrnoStatus(ENOSPC, "p").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(ENOSPC, "p").message(), "p: disk full");
}

TEST_F(Files, ReadingRefusesFoldersMissingAndOversizedFiles) {
  EXPECT_EQ(ReadFile(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadFile(dir_).status().code(), absl::StatusCode::kInvalidArgument);
  std::ofstream(dir_ / "big") << "12345";
  EXPECT_EQ(ReadFile(dir_ / "big", 4).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Hash, AgreesWithTheStandardsTestVector) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Hash, GroupIdsDifferInEveryPart) {
  EXPECT_EQ(MakeGid("r", "train", 1).size(), 32u);
  EXPECT_NE(MakeGid("r", "train", 1), MakeGid("r", "train", 2));
  EXPECT_NE(MakeGid("r", "train", 1), MakeGid("r", "eval", 1));
  EXPECT_NE(MakeGid("r", "train", 1), MakeGid("s", "train", 1));
}

TEST_F(Files, AStampIsSizeAndHash) {
  temp_.Write("abc", "abc");
  temp_.Write("empty", "");
  const auto stamp = [&](const char* name) { return StampFile((dir_ / name).string()); };
  EXPECT_EQ(stamp("abc")->bytes, 3u);
  EXPECT_EQ(stamp("abc")->sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(stamp("empty")->sha256, Sha256Hex(""));
  EXPECT_TRUE(absl::IsNotFound(stamp("absent").status()));
}

}  // namespace
}  // namespace tramontane
