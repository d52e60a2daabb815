#include "services/tool_main.h"

#include <gtest/gtest.h>

#include <sstream>

namespace tramontane {
namespace {

int RunOn(const std::string& input, std::string& output,
        const std::function<absl::StatusOr<Json>(const nlohmann::ordered_json&)>& tool) {
  std::istringstream in(input);
  std::ostringstream out;
  const int code = RunJsonTool("echo", in, out, tool);
  output = out.str();
  return code;
}

TEST(ToolMainTest, PrintsExactlyOneDocument) {
  std::string output;
  EXPECT_EQ(RunOn(R"({"b": 1, "a": 0.1})", output, [](const auto& in) { return Json(in); }), 0);
  EXPECT_EQ(output, "{\"a\":0.1,\"b\":1}\n");
}

TEST(ToolMainTest, AToolSeesKeysInTheirOrder) {
  std::string output;
  RunOn(R"({"b": 1, "a": 2})", output,
      [](const nlohmann::ordered_json& in) { return Json(in.begin().key()); });
  EXPECT_EQ(output, "\"b\"\n");
}

TEST(ToolMainTest, AnErrorIsADocumentTooAndTheExitCodeIsOne) {
  std::string output;
  EXPECT_EQ(RunOn("{}", output,
                [](const auto&) -> absl::StatusOr<Json> { return absl::NotFoundError("no \"x\""); }),
            1);
  const Json error = Json::parse(output)["error"];
  EXPECT_EQ(error["code"], "NOT_FOUND");
  EXPECT_EQ(error["message"], "no \"x\"");
  EXPECT_EQ(error["where"], "echo");
}

TEST(ToolMainTest, InputThatIsNotJsonIsInvalidArgument) {
  for (const char* input : {"", "{", "nonsense", "{} {}"}) {
    std::string output;
    EXPECT_EQ(RunOn(input, output, [](const auto& in) { return Json(in); }), 1) << input;
    EXPECT_EQ(Json::parse(output)["error"]["code"], "INVALID_ARGUMENT");
  }
}

TEST(ToolMainTest, BytesThatAreNotUtf8AreReplaced) {
  std::string output;
  EXPECT_EQ(RunOn("{}", output, [](const auto&) { return Json(std::string("a\xffz")); }), 0);
  EXPECT_EQ(Json::parse(output).get<std::string>(), "a\xef\xbf\xbdz");
}

}  // namespace
}  // namespace tramontane
