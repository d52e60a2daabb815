#include "model/weights/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "payload.h"

namespace tramontane {
namespace {

using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(ManifestTest, AcceptsWhatFitsItsPayload) {
  const TestWeights weights = MakeTestWeights(3);
  EXPECT_TRUE(CheckManifest(weights.manifest).ok());
  EXPECT_TRUE(VerifyPayload(weights.manifest, weights.payload.data(), weights.payload.size()).ok());
}

struct BadCase {
  std::string name;
  std::function<void(WeightManifest&)> spoil;
  std::string message;
};

class BadManifestTest : public testing::TestWithParam<BadCase> {};

TEST_P(BadManifestTest, IsRefusedAndSaysWhy) {
  WeightManifest manifest = MakeTestWeights(3).manifest;
  GetParam().spoil(manifest);
  const absl::Status status = CheckManifest(manifest);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr(GetParam().message));
}

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

INSTANTIATE_TEST_SUITE_P(
    All, BadManifestTest,
    testing::Values(
        BadCase{"NoTensors", [](auto& m) { m.tensors.clear(); }, "no tensors"},
        BadCase{"NegativeVersion", [](auto& m) { m.version = -1; }, "negative version"},
        BadCase{"EmptyName", [](auto& m) { m.tensors[0].name = ""; }, "empty name"},
        BadCase{"SameNameTwice", [](auto& m) { m.tensors[1].name = "a"; }, "'a': listed twice"},
        BadCase{"UnknownDtype", [](auto& m) { m.tensors[0].dtype = "int8"; }, "'int8'"},
        BadCase{"NegativeExtent", [](auto& m) { m.tensors[0].shape = {-1}; }, "negative extent"},
        BadCase{"ShapeProductOverflows", [](auto& m) { m.tensors[0].shape = {kHuge, kHuge}; },
                "too large"},
        BadCase{"ShapeWrapsToTheRightSize",
                [](auto& m) { m.tensors[0].shape = {int64_t{1} << 62, 4, 1000}; }, "too large"},
        BadCase{"SizeDisagrees", [](auto& m) { m.tensors[0].size_bytes -= 4; }, "need 4000 bytes"},
        BadCase{"Overlap", [](auto& m) { m.tensors[1].offset_bytes = 3998; }, "overlaps"},
        BadCase{"BeyondPayload", [](auto& m) { m.payload_bytes -= 1; }, "beyond the payload"},
        BadCase{"OffsetWraps",
                [](auto& m) { m.tensors[1].offset_bytes = std::numeric_limits<uint64_t>::max() - 2; },
                "beyond the payload"},
        BadCase{"HugePayload", [](auto& m) { m.payload_bytes = uint64_t{1} << 60; }, "payload_bytes"},
        BadCase{"ProbeLengths", [](auto& m) { m.probe_tokens = {1, 2, 3}; }, "need 2"}),
    [](const auto& info) { return info.param.name; });

TEST(ManifestTest, OneFlippedBitNamesItsTensor) {
  TestWeights weights = MakeTestWeights(3);
  weights.payload[weights.manifest.tensors[1].offset_bytes] ^= 1;
  const absl::Status status =
      VerifyPayload(weights.manifest, weights.payload.data(), weights.payload.size());
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("'b'"));
}

TEST(ManifestTest, AShortPayloadIsDataLoss) {
  const TestWeights weights = MakeTestWeights(3);
  EXPECT_TRUE(absl::IsDataLoss(
      VerifyPayload(weights.manifest, weights.payload.data(), weights.payload.size() - 1)));
}

}  // namespace
}  // namespace tramontane
