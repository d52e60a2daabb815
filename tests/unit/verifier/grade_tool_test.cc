#include "verifier/grade_tool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tramontane {
namespace {

using testing::HasSubstr;

TEST(GradeToolTest, JudgesCompletionsAndBareAnswers) {
  const Json in = Json::parse(R"({"items": [
    {"prompt": "1+1=", "completion": "<think>a</think>\\boxed{2}", "gold": "2"},
    {"completion": "<think>a</think>\\boxed{3}", "gold": "2", "params": {"any": 1}},
    {"answer": "0.50", "gold": "1/2", "deadline_s": 5},
    {"answer": "so \\boxed{7}", "gold": "7"},
    {"answer": "8", "gold": "7"}]})");
  const auto out = GradeTool("math", in);
  ASSERT_TRUE(out.ok()) << out.status();
  const Json& verdicts = (*out)["verdicts"];
  ASSERT_EQ(verdicts.size(), 5u);
  const double scores[] = {1.0, 0.1, 1.0, 1.0, 0.0};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(verdicts[i]["status"], "scored");
    EXPECT_EQ(verdicts[i]["score"], scores[i]) << i;
    EXPECT_TRUE(verdicts[i]["exec_seconds"].is_number());
    EXPECT_TRUE(verdicts[i].contains("components"));
    EXPECT_TRUE(verdicts[i].contains("feedback"));
  }
  EXPECT_EQ(verdicts[3]["extracted"], "7");
}

TEST(GradeToolTest, AMissedDeadlineIsATimeoutWithoutScore) {
  const std::string big(1 << 20, '7');
  const auto out = GradeTool(
      "math", {{"items", Json::array({{{"answer", big}, {"gold", big}, {"deadline_s", 1e-9}}})}});
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ((*out)["verdicts"][0]["status"], "timeout");
  EXPECT_TRUE((*out)["verdicts"][0]["score"].is_null());
}

TEST(GradeToolTest, ErrorsNameItemAndField) {
  const auto message = [](const char* text) {
    const auto out = GradeTool("math", Json::parse(text));
    EXPECT_EQ(out.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(out.status().message());
  };
  EXPECT_THAT(message("[]"), HasSubstr("items"));
  EXPECT_THAT(message(R"({"items": 5})"), HasSubstr("items"));
  EXPECT_THAT(message(R"({"items": [5]})"), HasSubstr("items[0]"));
  EXPECT_THAT(message(R"({"items": [{"answer": "1", "gold": "1"}, {"answer": "1"}]})"),
              HasSubstr("items[1].gold"));
  EXPECT_THAT(message(R"({"items": [{"answer": "1", "gold": ""}]})"), HasSubstr("items[0].gold"));
  EXPECT_THAT(message(R"({"items": [{"answer": 1, "gold": "1"}]})"), HasSubstr("items[0].answer"));
  EXPECT_THAT(message(R"({"items": [{"gold": "1"}]})"), HasSubstr("completion"));
  EXPECT_THAT(message(R"({"items": [{"answer": "1", "completion": "1", "gold": "1"}]})"),
              HasSubstr("either"));
  EXPECT_THAT(message(R"({"items": [{"answer": "1", "gold": "1", "deadline_s": 0}]})"),
              HasSubstr("deadline_s"));
  EXPECT_THAT(message(R"({"items": [{"answer": "1", "gold": "1", "golden": "1"}]})"),
              HasSubstr("golden"));
  EXPECT_EQ(GradeTool("maths", Json::parse(R"({"items": []})")).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace tramontane
