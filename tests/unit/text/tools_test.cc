#include "text/tools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/source_file.h"

namespace tramontane {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using testing::HasSubstr;

std::string ToolFolder() { return SourceFile("examples/demo/tokenizer"); }

TEST(TokenizeToolTest, GoesBothWays) {
  const auto ids = TokenizeTool(ToolFolder(), {{"texts", {"12<|im_end|>", ""}}});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, json::parse(R"({"ids": [[16, 17, 258], []]})"));
  const auto texts =
      TokenizeTool(ToolFolder(), {{"ids", {{16, 17, 258}}}, {"skip_special_tokens", true}});
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(*texts, json::parse(R"({"texts": ["12"]})"));
}

TEST(TokenizeToolTest, NamesTheBadField) {
  const auto message = [](const ordered_json& in) {
    return std::string(TokenizeTool(ToolFolder(), in).status().message());
  };
  EXPECT_THAT(message(ordered_json::object()), HasSubstr("\"texts\" or \"ids\""));
  EXPECT_THAT(message({{"texts", {"a"}}, {"typo", 1}}), HasSubstr("input.typo: unknown key"));
  EXPECT_THAT(message({{"texts", {1}}}), HasSubstr("input.texts"));
  EXPECT_THAT(message({{"ids", {{1}, {-1}}}}), HasSubstr("input.ids[1]"));
  EXPECT_THAT(message({{"texts", {"a"}}, {"add_special_tokens", 1}}),
              HasSubstr("input.add_special_tokens"));
}

TEST(TemplateToolTest, RendersAConversation) {
  const auto out = TemplateTool(
      ToolFolder(),
      {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"add_generation_prompt", true}});
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ((*out)["text"], "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(TemplateTool(ToolFolder(), ordered_json::object()).status().message(),
            "input.messages: missing");
}

}  // namespace
}  // namespace tramontane
