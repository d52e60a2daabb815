// Which layers are enough, and that too few run nothing.
#include "verifier/sandbox/layers.h"

#include <gtest/gtest.h>

#include "verifier/sandbox/jail_wire.h"

namespace tramontane {
namespace {

constexpr uint32_t kBase = kLayerNoNewPrivs | kLayerSeccomp | kLayerRlimits;

absl::StatusOr<SandboxDescription> Describe(uint32_t layers, const SandboxSection& section = {}) {
  return DescribeLayers(layers, 3, "user namespace: Operation not permitted", section);
}

TEST(LayersTest, LandlockOrAMountNamespaceMakesTierB) {
  for (const uint32_t walls : {kLayerLandlock, kLayerMountNamespace}) {
    const auto description = Describe(kBase | walls);
    ASSERT_TRUE(description.ok()) << description.status();
    EXPECT_EQ(description->tier, "B");
  }
  const auto description = Describe(kBase | kLayerLandlock);
  EXPECT_EQ(description->layers.back(), "landlock:3");
  const std::string missing = description->missing.front();
  EXPECT_NE(missing.find("not permitted"), missing.npos) << missing;
}

TEST(LayersTest, WithoutANeededLayerNothingRuns) {
  for (const uint32_t missing : {kLayerNoNewPrivs, kLayerSeccomp, kLayerRlimits}) {
    const auto description = Describe((kBase | kLayerLandlock) & ~missing);
    EXPECT_TRUE(absl::IsFailedPrecondition(description.status())) << missing;
  }
  const auto open = Describe(kBase);
  ASSERT_TRUE(absl::IsFailedPrecondition(open.status()));
  EXPECT_NE(std::string(open.status().message()).find("tier C"), std::string::npos);
}

TEST(LayersTest, AJailThatIsStartedLaterIsAsTightAsTheFirst) {
  EXPECT_TRUE(CheckAsTight(kBase | kLayerLandlock, kBase | kLayerLandlock | kLayerOwnUid).ok());
  const absl::Status looser = CheckAsTight(kBase | kLayerLandlock | kLayerOwnUid, kBase);
  EXPECT_TRUE(absl::IsFailedPrecondition(looser));
  EXPECT_NE(std::string(looser.message()).find("landlock, own_uid"), std::string::npos) << looser;
}

TEST(LayersTest, WhatTheConfigurationDemandsIsNeededToo) {
  SandboxSection section;
  section.required_layers = {"pid_namespace"};
  const auto refused = Describe(kBase | kLayerLandlock, section);
  ASSERT_TRUE(absl::IsFailedPrecondition(refused.status()));
  EXPECT_NE(std::string(refused.status().message()).find("pid_namespace"), std::string::npos);
  EXPECT_TRUE(Describe(kBase | kLayerLandlock | kLayerPidNamespace, section).ok());

  section.required_layers = {"pid_namespaces"};
  EXPECT_TRUE(absl::IsInvalidArgument(Describe(~0u, section).status()));
}

TEST(LayersTest, TierAIsWhatTheOperatorDeclaresAndNothingLess) {
  SandboxSection section;
  section.required_tier = "A";
  EXPECT_TRUE(absl::IsFailedPrecondition(Describe(~0u, section).status()));
  section.runtime_class = "gvisor";
  const auto description = Describe(kBase | kLayerMountNamespace, section);
  ASSERT_TRUE(description.ok()) << description.status();
  EXPECT_EQ(description->tier, "A");
  EXPECT_FALSE(Describe(kBase, section).ok()) << "a runtime class does not replace the jail";
}

}  // namespace
}  // namespace tramontane
