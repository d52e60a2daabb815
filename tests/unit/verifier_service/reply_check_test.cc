#include "services/verifier/reply_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/hash.h"
#include "services/judged_digest.h"

namespace tramontane {
namespace {

v1::VerifierDescription Bounded() {
  v1::VerifierDescription description;
  description.set_reward_min(0);
  description.set_reward_max(1);
  return description;
}

v1::VerifyResult Scored(double reward) {
  v1::VerifyResult result;
  result.set_request_id("g/0");
  result.set_status(v1::VERIFY_STATUS_SCORED);
  result.set_reward(reward);
  return result;
}

v1::VerifyRequest Request() {
  v1::VerifyRequest request;
  request.set_request_id("g/0");
  return request;
}

ReplyKind KindOf(const v1::VerifyResult& result) {
  return CheckReply(result, Request(), Bounded()).kind;
}

TEST(ReplyCheckTest, AGoodReplyIsAVerdict) {
  const CheckedReply reply = CheckReply(Scored(0.5), Request(), Bounded());
  EXPECT_EQ(reply.kind, ReplyKind::kVerdict);
  EXPECT_EQ(reply.verdicts.at(0).score, 0.5);
  EXPECT_EQ(KindOf(Scored(0)), ReplyKind::kVerdict);
  EXPECT_EQ(KindOf(Scored(1)), ReplyKind::kVerdict);
}

TEST(ReplyCheckTest, LiesAreNeverVerdicts) {
  const double inf = std::numeric_limits<double>::infinity();
  for (double reward : {std::nan(""), inf, -inf, 1.5, -0.5, 1e300}) {
    EXPECT_EQ(KindOf(Scored(reward)), ReplyKind::kRetry) << reward;
  }
  v1::VerifyResult result = Scored(1);
  result.set_request_id("g/1");
  EXPECT_EQ(KindOf(result), ReplyKind::kRetry);
  result = Scored(1);
  result.clear_reward();
  EXPECT_EQ(KindOf(result), ReplyKind::kRetry);
  result = Scored(1);
  result.set_status(v1::VERIFY_STATUS_UNSPECIFIED);
  EXPECT_EQ(KindOf(result), ReplyKind::kRetry);
  result = Scored(1);
  result.set_status(v1::VERIFY_STATUS_TIMEOUT);
  EXPECT_EQ(KindOf(result), ReplyKind::kRetry) << "a reward where none belongs";
  result = Scored(1);
  (*result.mutable_components())["x"] = std::nan("");
  EXPECT_EQ(KindOf(result), ReplyKind::kRetry);
  result = Scored(1);
  result.set_exec_seconds(std::nan(""));
  EXPECT_EQ(KindOf(result), ReplyKind::kRetry);
  result = Scored(1);
  result.set_status(static_cast<v1::VerifyStatus>(77));
  EXPECT_EQ(KindOf(result), ReplyKind::kRetry);
}

// The Python package computes the same (verifier/sdk/python/tests/test_service.py).
TEST(ReplyCheckTest, WhatWasJudgedIsToldInSixteenDigits) {
  v1::VerifyRequest request;
  request.set_prompt("1+1=");
  request.set_completion("2");
  request.set_answer("two");
  EXPECT_EQ(JudgedDigest(request), Sha256Hex("4:1+1=1:23:two").substr(0, 16));
  request.clear_completion();
  request.add_group()->set_completion("2");
  request.add_group()->set_completion("\xc3\xbc");
  EXPECT_EQ(JudgedDigest(request), Sha256Hex("4:1+1=1:22:\xc3\xbc" "3:two").substr(0, 16));
}

TEST(ReplyCheckTest, AReplyAboutAnotherCompletionIsNoVerdictThoughItHasTheRightId) {
  v1::VerifyRequest mine = Request(), other = Request();
  mine.set_completion("right");
  other.set_completion("wrong");
  v1::VerifyResult result = Scored(1);
  EXPECT_EQ(CheckReply(result, mine, Bounded()).kind, ReplyKind::kVerdict) << "it does not tell";
  result.set_judged(JudgedDigest(mine));
  EXPECT_EQ(CheckReply(result, mine, Bounded()).kind, ReplyKind::kVerdict);
  const CheckedReply reply = CheckReply(result, other, Bounded());
  EXPECT_EQ(reply.kind, ReplyKind::kRetry);
  EXPECT_NE(reply.reason.find("another completion"), std::string::npos) << reply.reason;
}

TEST(ReplyCheckTest, BoundsAreOfTheVerifiersOwnWeights) {
  v1::VerifyRequest request = Request();
  (*request.mutable_reward_weights())["length"] = 3;
  EXPECT_EQ(CheckReply(Scored(-2), request, Bounded()).kind, ReplyKind::kVerdict);
  EXPECT_EQ(CheckReply(Scored(-2), Request(), Bounded()).kind, ReplyKind::kRetry);
}

TEST(ReplyCheckTest, EveryStatusHasItsMeaning) {
  v1::VerifyResult result;
  result.set_request_id("g/0");
  result.set_status(v1::VERIFY_STATUS_TIMEOUT);
  const CheckedReply timeout = CheckReply(result, Request(), Bounded());
  EXPECT_EQ(timeout.kind, ReplyKind::kVerdict);
  EXPECT_EQ(timeout.verdicts.at(0).status, VerdictStatus::kTimeout);
  EXPECT_FALSE(timeout.verdicts.at(0).score);
  result.set_status(v1::VERIFY_STATUS_POLICY_FAILURE);
  EXPECT_EQ(CheckReply(result, Request(), Bounded()).verdicts.at(0).status,
            VerdictStatus::kPolicyFailure);
  result.set_status(v1::VERIFY_STATUS_BAD_INPUT);
  EXPECT_EQ(KindOf(result), ReplyKind::kBadRow);
  for (auto status : {v1::VERIFY_STATUS_OVERLOADED, v1::VERIFY_STATUS_CANCELLED}) {
    result.set_status(status);
    EXPECT_EQ(KindOf(result), ReplyKind::kNotTried);
  }
  for (auto status : {v1::VERIFY_STATUS_VERIFIER_ERROR, v1::VERIFY_STATUS_SANDBOX_ERROR}) {
    result.set_status(status);
    EXPECT_EQ(KindOf(result), ReplyKind::kRetry);
  }
}

TEST(ReplyCheckTest, WithoutBoundsAnyFiniteRewardWillDo) {
  EXPECT_EQ(CheckReply(Scored(-42), Request(), v1::VerifierDescription{}).kind,
            ReplyKind::kVerdict);
}

}  // namespace
}  // namespace tramontane
