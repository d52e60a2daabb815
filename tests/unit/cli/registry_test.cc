#include "cli/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace tramontane {
namespace {

using testing::HasSubstr;

class RegistryTest : public testing::Test {
 protected:
  RegistryTest()
      : folder_(testing::TempDir() + "registry_test_" + std::to_string(::getpid())),
        registry_(folder_) {}
  ~RegistryTest() override { std::filesystem::remove_all(folder_); }

  void Submit(const std::string& version) {
    const auto made =
        registry_.SubmitService({"judge", version, "digest-" + version, "host:1", "", ""});
    ASSERT_TRUE(made.ok()) << made.status();
  }
  static RunConfig Using(const std::string& use) {
    RunConfig config;
    config.verifiers["j"].use = use;
    return config;
  }

  const std::string folder_;
  const VerifierRegistry registry_;
};

TEST_F(RegistryTest, TheFirstVersionIsCurrentAndALaterOneIsPromoted) {
  Submit("1");
  Submit("2");
  EXPECT_EQ(registry_.Get("judge")->current, "1");
  EXPECT_EQ(registry_.Find("judge")->version, "1");
  EXPECT_EQ(registry_.Find("judge@2")->digest, "digest-2");
  EXPECT_TRUE(absl::IsFailedPrecondition(registry_.Promote("judge", "2", Json())));
  EXPECT_TRUE(registry_.Promote("judge", "2", {{"samples", 3}}).ok());
  EXPECT_EQ(registry_.Find("judge")->version, "2");
  Submit("3");
  EXPECT_TRUE(registry_.Promote("judge", "3", {{"forced", true}}).ok());
  EXPECT_EQ(*registry_.Rollback("judge"), "2");
  EXPECT_EQ(*registry_.Rollback("judge"), "1");
  EXPECT_TRUE(absl::IsFailedPrecondition(registry_.Rollback("judge").status()));
  EXPECT_TRUE(registry_.Promote("judge", "3", Json()).ok()) << "it has been compared";
}

TEST_F(RegistryTest, PromotingWhatIsCurrentDoesNotStandInTheWayOfARollback) {
  Submit("1");
  Submit("2");
  ASSERT_TRUE(registry_.Promote("judge", "2", {{"samples", 3}}).ok());
  ASSERT_TRUE(registry_.Promote("judge", "2", {{"samples", 4}}).ok());
  EXPECT_EQ(*registry_.Rollback("judge"), "1");
}

TEST_F(RegistryTest, SubmittingAgainKeepsTheOrderAndMovesAService) {
  Submit("2");
  Submit("1");
  const std::string file = folder_ + "/judge/versions/2.json";
  const auto written = std::filesystem::last_write_time(file) - std::chrono::hours(1);
  std::filesystem::last_write_time(file, written);
  Submit("2");
  EXPECT_EQ(std::filesystem::last_write_time(file), written) << "nothing is new";
  ASSERT_TRUE(registry_.SubmitService({"judge", "2", "digest-2", "moved:2", "", ""}).ok());
  const auto judge = registry_.Get("judge");
  ASSERT_EQ(judge->versions.size(), 2u);
  EXPECT_EQ(judge->versions[0].version, "2");
  EXPECT_EQ(judge->versions[0].address, "moved:2");
  EXPECT_EQ(judge->versions[1].version, "1");
  EXPECT_EQ(judge->current, "2");
}

TEST_F(RegistryTest, AShadowThatWasComparedMayBePromoted) {
  Submit("1");
  Submit("2");
  EXPECT_TRUE(registry_.Shadow("judge", "2", {{"samples", 3}}).ok());
  EXPECT_EQ(registry_.Get("judge")->shadow, "2");
  EXPECT_TRUE(registry_.Promote("judge", "2", Json()).ok());
  EXPECT_EQ(registry_.Get("judge")->shadow, "") << "it is no shadow any more";
}

TEST_F(RegistryTest, ARunIsPinnedToWhatIsCurrentAndTheShadowBecomesAnEntry) {
  Submit("1");
  Submit("2");
  ASSERT_TRUE(registry_.Shadow("judge", "2", Json()).ok());
  RunConfig config = Using("judge");
  ASSERT_TRUE(registry_.Pin(config).ok());
  const VerifierSection first = config.verifiers.at("j");
  EXPECT_EQ(first.use, "judge@1");
  EXPECT_EQ(first.digest, "digest-1");
  EXPECT_EQ(first.shadow, "j-shadow");
  EXPECT_EQ(config.verifiers.at("j-shadow").digest, "digest-2");
  EXPECT_TRUE(config.verifiers.at("j-shadow").shadow.empty());
  // A later start of the same run finds the same, whatever is current then.
  ASSERT_TRUE(registry_.Promote("judge", "2", {{"samples", 1}}).ok());
  ASSERT_TRUE(registry_.Pin(config).ok());
  EXPECT_EQ(config.verifiers.at("j").use, "judge@1");
  EXPECT_EQ(config.verifiers.size(), 2u);
}

TEST_F(RegistryTest, ACanaryJudgesAShareOfTheGroupsUntilItIsPromoted) {
  Submit("1");
  Submit("2");
  EXPECT_TRUE(absl::IsInvalidArgument(registry_.Shadow("judge", "2", Json(), 1.5)));
  ASSERT_TRUE(registry_.Shadow("judge", "2", {{"samples", 1}}, 0.25).ok());
  RunConfig config = Using("judge");
  ASSERT_TRUE(registry_.Pin(config).ok());
  EXPECT_EQ(config.verifiers.at("j").canary_fraction, 0.25);
  EXPECT_EQ(config.verifiers.at("j-shadow").canary_fraction, 0);
  ASSERT_TRUE(registry_.Promote("judge", "2", Json()).ok());
  EXPECT_EQ(registry_.Get("judge")->canary_fraction, 0);
}

TEST_F(RegistryTest, UseBecomesAnAddressAndAWrongDigestIsRefused) {
  Submit("1");
  VerifierSection section;
  section.use = "judge";
  ASSERT_TRUE(registry_.FillIn(section).ok());
  EXPECT_EQ(section.address, "host:1");
  EXPECT_EQ(section.digest, "digest-1");
  EXPECT_TRUE(section.use.empty());
  section.use = "judge@1";
  section.digest = "another";
  EXPECT_TRUE(absl::IsFailedPrecondition(registry_.FillIn(section)));
}

TEST_F(RegistryTest, BadInputIsNamedAndChangesNothing) {
  Submit("1");
  EXPECT_TRUE(absl::IsAlreadyExists(
      registry_.SubmitService({"judge", "1", "another", "host:2", "", ""}).status()));
  EXPECT_EQ(registry_.Find("judge@1")->digest, "digest-1");
  for (const char* name : {"../judge", "", "a/b", ".hidden"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        registry_.SubmitService({name, "1", "d", "host:1", "", ""}).status()))
        << name;
    EXPECT_FALSE(registry_.Get(name).ok());
  }
  RunConfig config = Using("nobody");
  EXPECT_THAT(std::string(registry_.Pin(config).message()), HasSubstr("verifiers.j.use"));
  EXPECT_THAT(std::string(registry_.Find("judge@9").status().message()), HasSubstr("it has 1"));
  EXPECT_FALSE(registry_.Shadow("judge", "9", Json()).ok());
}

}  // namespace
}  // namespace tramontane
