#include "services/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tramontane {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const Identity kOurs{"run-1", "aaaa", "bbbb"};

TEST(HandshakeTest, EqualsPass) {
  EXPECT_TRUE(CheckHandshake(MakeHandshake(kOurs), kOurs, "peer").ok());
}

TEST(HandshakeTest, WhatOneSideDoesNotKnowIsNotCompared) {
  EXPECT_TRUE(CheckHandshake(MakeHandshake({}), kOurs, "peer").ok());
  EXPECT_TRUE(CheckHandshake(MakeHandshake(kOurs), {}, "peer").ok());
}

TEST(HandshakeTest, AnotherProtocolNamesBothNumbers) {
  v1::Handshake peer = MakeHandshake(kOurs);
  peer.set_protocol_version(kProtocolVersion + 41);
  const absl::Status status = CheckHandshake(peer, kOurs, "peer-7");
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("peer-7"), HasSubstr("protocol_version"), HasSubstr("theirs 42"),
                    HasSubstr("ours 1")));
}

TEST(HandshakeTest, NoHandshakeAtAllIsAnotherProtocol) {
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckHandshake(v1::Handshake(), kOurs, "peer")));
}

TEST(HandshakeTest, EveryFieldIsComparedAndNamed) {
  const std::pair<Identity, std::string> cases[] = {{{"run-2", "aaaa", "bbbb"}, "run_id"},
                                                    {{"run-1", "cccc", "bbbb"}, "tokenizer_sha256"},
                                                    {{"run-1", "aaaa", "dddd"}, "template_sha256"}};
  for (const auto& [theirs, field] : cases) {
    const absl::Status status = CheckHandshake(MakeHandshake(theirs), kOurs, "peer");
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
}

}  // namespace
}  // namespace tramontane
