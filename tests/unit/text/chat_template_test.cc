#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "tests/support/temp_dir.h"
#include "tests/unit/text/golden.h"

namespace tramontane {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

const ordered_json kHello = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};

// Renders `source` over `context`; the status' text where it fails.
std::string Rendered(const std::string& source, const ordered_json& context,
                     const std::string& config = "{}") {
  const TempDir folder;
  folder.Write("chat_template.jinja", source);
  folder.Write("tokenizer_config.json", config);
  const auto chat_template = ChatTemplate::Load(folder.path());
  if (!chat_template.ok()) return chat_template.status().ToString();
  const auto text = (*chat_template)->Render(context);
  return text.ok() ? *text : text.status().ToString();
}

class GoldenTemplate : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTemplate, RendersAsTransformers) {
  const auto chat_template = ChatTemplate::Load(GoldenFolder(GetParam()));
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  for (const ordered_json& entry : Expected(GoldenFolder(GetParam()))) {
    const auto text = (*chat_template)->Render(entry["in"]);
    if (entry["text"].is_null()) {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << entry["in"];
    } else {
      ASSERT_TRUE(text.ok()) << text.status() << entry["in"];
      EXPECT_EQ(*text, entry["text"].get<std::string>());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, GoldenTemplate, testing::ValuesIn(GoldenNames(true)),
                         [](const auto& info) { return info.param; });

TEST(ChatTemplateTest, SpecialTokensAreVariables) {
  EXPECT_EQ(
      Rendered("{{ bos_token }}|{{ eos_token }}|{{ image_token }}|{{ pad_token }}", kHello,
               R"({"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>"},
                         "image_token": "<img>", "pad_token": null})"),
      "<s>|</s>|<img>|");
}

TEST(ChatTemplateTest, ATemplatesOwnComplaintReachesTheCaller) {
  EXPECT_THAT(
      Rendered("{{ raise_exception('roles must alternate') }}", kHello),
      HasSubstr(
          "INVALID_ARGUMENT: chat template: roles must alternate (template default, line 1)"));
}

TEST(ChatTemplateTest, TodayIsToday) {
  const std::string text = Rendered("{{ strftime_now('%Y-%m-%d') }}", kHello);
  const std::time_t now = std::time(nullptr);
  char today[32];
  std::strftime(today, sizeof(today), "%Y-%m-%d", std::localtime(&now));
  EXPECT_EQ(text, today);
}

TEST(ChatTemplateTest, ObjectsKeepTheirOrder) {
  ordered_json context = kHello;
  context["tools"] = ordered_json::parse(R"([{"z": 1, "a": {"y": 2, "b": 3}}])");
  EXPECT_EQ(Rendered("{{ tools | tojson }}", context), R"([{"z": 1, "a": {"y": 2, "b": 3}}])");
}

TEST(ChatTemplateTest, HostileTemplatesEnd) {
  EXPECT_THAT(
      Rendered("{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
               kHello),
      HasSubstr("INVALID_ARGUMENT"));
  EXPECT_THAT(Rendered("{{ 'x' * 100000000000 }}", kHello), HasSubstr("INVALID_ARGUMENT"));
  EXPECT_THAT(Rendered("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", kHello),
              HasSubstr("INVALID_ARGUMENT"));
  EXPECT_THAT(Rendered("{% include '/etc/passwd' %}", kHello), HasSubstr("INVALID_ARGUMENT"));
}

TEST(ChatTemplateTest, BrokenTemplatesNameTheirFile) {
  EXPECT_THAT(Rendered("{% if %}", kHello), HasSubstr("chat_template.jinja"));
  const TempDir folder;
  folder.Write("tokenizer_config.json", R"({"chat_template": 3})");
  EXPECT_THAT(ChatTemplate::Load(folder.path()).status().ToString(),
              HasSubstr("tokenizer_config.json: chat_template"));
}

TEST(ChatTemplateTest, AModelWithoutOneIsNotFound) {
  const TempDir folder;
  EXPECT_EQ(ChatTemplate::Load(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(ChatTemplate::Load(folder.path()).status().code(), absl::StatusCode::kNotFound);
}

TEST(ChatTemplateTest, FilesComeBeforeTheConfiguration) {
  const TempDir folder;
  folder.Write("tokenizer_config.json", R"({"chat_template": "old"})");
  folder.Write("chat_template.jinja", "new");
  folder.Write("additional_chat_templates/tool_use.jinja", "with tools");
  const auto chat_template = ChatTemplate::Load(folder.path());
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ(*(*chat_template)->Render(kHello), "new");
  ordered_json context = kHello;
  context["tools"] = ordered_json::array();
  EXPECT_EQ(*(*chat_template)->Render(context), "with tools");
}

TEST(ChatTemplateTest, MessagesAreChecked) {
  EXPECT_THAT(Rendered("x", ordered_json::object()), HasSubstr("messages: missing"));
  EXPECT_THAT(Rendered("x", {{"messages", ordered_json::array()}}), HasSubstr("messages: empty"));
  EXPECT_THAT(Rendered("x", {{"messages", {1}}}), HasSubstr("messages[0]"));
  EXPECT_THAT(Rendered("x", ordered_json::array()), HasSubstr("not an object"));
}

}  // namespace
}  // namespace tramontane
