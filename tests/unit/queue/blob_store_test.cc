#include "queue/blob_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/hash.h"
#include "tests/support/redis_server.h"
#include "tests/support/small_disk.h"

namespace tramontane {
namespace {

TEST(BlobStore, ReturnsWhatWasPutUnderItsHash) {
  TempDir dir;
  BlobStore store = BlobStore::Open(dir.path() + "/blobs").value();
  const std::string bytes("a\0b\nc", 5);
  const std::string address = store.Put(bytes).value();
  EXPECT_EQ(address, Sha256Hex(bytes));
  EXPECT_EQ(store.Put(bytes).value(), address);
  EXPECT_EQ(store.Get(address).value(), bytes);
}

TEST(BlobStore, RefusesContentThatDoesNotMatchItsAddress) {
  TempDir dir;
  BlobStore store = BlobStore::Open(dir.path() + "/blobs").value();
  const std::string address = store.Put("payload").value();
  std::ofstream(dir.path() + "/blobs/" + address.substr(0, 2) + "/" + address) << "paYload";
  EXPECT_EQ(store.Get(address).status().code(), absl::StatusCode::kDataLoss);
}

TEST(BlobStore, RefusesAddressesThatLeaveItsFolder) {
  TempDir dir;
  BlobStore store = BlobStore::Open(dir.path() + "/blobs").value();
  EXPECT_EQ(store.Get("../../etc/passwd").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store.Remove("../x").code(), absl::StatusCode::kInvalidArgument);
}

TEST(BlobStore, RemovesOnceAndForgivesTheSecondTime) {
  TempDir dir;
  BlobStore store = BlobStore::Open(dir.path() + "/blobs").value();
  const std::string address = store.Put("payload").value();
  EXPECT_TRUE(store.Remove(address).ok());
  EXPECT_TRUE(store.Remove(address).ok());
  EXPECT_EQ(store.Get(address).status().code(), absl::StatusCode::kNotFound);
}

TEST(BlobStore, SweepsOnlyOldFilesThatNobodyNeeds) {
  TempDir dir;
  BlobStore store = BlobStore::Open(dir.path() + "/blobs").value();
  const std::string needed = store.Put("needed").value();
  const std::string orphan = store.Put("orphan").value();
  EXPECT_EQ(store.Sweep({needed}, 3600).value(), 0);
  EXPECT_EQ(store.Sweep({needed}, 0).value(), 1);
  EXPECT_TRUE(store.Get(needed).ok());
  EXPECT_FALSE(store.Get(orphan).ok());
}

TEST(BlobStore, AFullDiskIsNamedAndLeavesNoPart) {
  auto disk = SmallDisk::Mount(size_t{1} << 20);
  if (!disk.ok()) GTEST_SKIP() << disk.status();
  BlobStore store = BlobStore::Open((*disk)->path() + "/blobs").value();
  const std::string bytes(100000, 'x');
  (*disk)->Fill(40960);
  const absl::Status status = store.Put(bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr((*disk)->path()), testing::EndsWith(": disk full")));
  EXPECT_EQ((*disk)->CountFiles(), 0);
  (*disk)->Fill(size_t{1} << 19);
  EXPECT_EQ(store.Get(store.Put(bytes).value()).value(), bytes);
}

}  // namespace
}  // namespace tramontane
