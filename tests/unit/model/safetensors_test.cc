#include "model/safetensors.h"
#include "tests/support/temp_dir.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace tramontane {
namespace {

std::string File(const std::string& header, size_t data_bytes, uint64_t claimed = UINT64_MAX) {
  const uint64_t length = claimed == UINT64_MAX ? header.size() : claimed;
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, '\1');
}

absl::StatusOr<SafetensorsHeader> Parse(const std::string& file) {
  return ParseSafetensorsHeader(file, file.size());
}

TEST(Safetensors, ReadsAProperHeader) {
  const auto header = Parse(File(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("empty":{"dtype":"F32","shape":[0,7],"data_offsets":[24,24]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}})",
      26));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors.at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(header->tensors.at("b").offset_bytes, 24u);
  EXPECT_EQ(header->metadata.at("format"), "pt");
}

TEST(Safetensors, RefusesHostileHeaders) {
  const struct {
    const char* what;
    std::string file;
    const char* word;
  } cases[] = {
      {"no length", std::string("abc"), "too short"},
      {"huge length", File("{}", 0, uint64_t{1} << 62), "claims"},
      {"length past the end", File("{}", 0, 90'000'000), "ends inside"},
      {"not JSON", File("{\"a\":", 0), "JSON"},
      {"not an object", File("[1]", 0), "object"},
      {"entry is a number", File(R"({"a":3})", 0), "'a'"},
      {"unknown dtype", File(R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", 8),
       "I64"},
      {"negative extent", File(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
       "shape"},
      {"fractional extent", File(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4),
       "shape"},
      {"shape overflows",
       File(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
       "overflows"},
      {"size and shape differ",
       File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4), "need 8"},
      {"offsets reversed", File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
       "offsets"},
      {"three offsets", File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4),
       "data_offsets"},
      {"beyond the file", File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4),
       "beyond"},
      {"hole",
       File(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
           12),
       "hole"},
      {"overlap",
       File(
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
           12),
       "overlaps"},
      {"excess bytes", File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 9),
       "cover"},
      {"listed twice",
       File(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
           4),
       "twice"},
      {"shape twice",
       File(R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4), "twice"},
      {"metadata is no map", File(R"({"__metadata__":{"a":1}})", 0), "__metadata__"},
  };
  for (const auto& c : cases) {
    const auto header = Parse(c.file);
    ASSERT_FALSE(header.ok()) << c.what;
    EXPECT_EQ(header.status().code(), absl::StatusCode::kDataLoss) << c.what;
    EXPECT_NE(std::string(header.status().message()).find(c.word), std::string::npos)
        << c.what << ": " << header.status();
  }
}

class SafetensorsFiles : public ::testing::Test {
 protected:
  const TempDir temp_;
  const std::filesystem::path dir_ = temp_.path();
  const std::string path_ = (dir_ / "x.safetensors").string();
};

TEST_F(SafetensorsFiles, ReadsBackWhatItWrote) {
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::vector<double> b = {0.5};
  ASSERT_TRUE(
      WriteSafetensors(path_, {{"b", "F64", {}, b.data(), 8}, {"a", "F32", {3, 2}, a.data(), 24}})
          .ok());
  const auto file = SafetensorsFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto& entry = (*file)->header().tensors.at("a");
  EXPECT_EQ(entry.shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(std::memcmp((*file)->Data(entry), a.data(), 24), 0);
  EXPECT_EQ((*file)->header().data_offset_bytes % 8, 0u);
}

TEST_F(SafetensorsFiles, NamesTheFileThatWasCutShort) {
  const std::vector<float> a(100, 1.0f);
  ASSERT_TRUE(WriteSafetensors(path_, {{"a", "F32", {100}, a.data(), 400}}).ok());
  const auto whole = std::filesystem::file_size(path_);
  for (uintmax_t size = 0; size < whole; size += 7) {
    std::filesystem::resize_file(path_, size);
    const auto file = SafetensorsFile::Open(path_);
    ASSERT_FALSE(file.ok()) << size;
    EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(std::string(file.status().message()).find(path_), std::string::npos);
    ASSERT_TRUE(WriteSafetensors(path_, {{"a", "F32", {100}, a.data(), 400}}).ok());
  }
  EXPECT_EQ(SafetensorsFile::Open(path_ + ".no").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace tramontane
