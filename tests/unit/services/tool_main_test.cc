#include "services/tool_main.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <sstream>
#include <vector>

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
  EXPECT_EQ(
      RunOn("{}", output,
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

struct Parsed {
  std::optional<int> exit;
  std::string out, err;
};

Parsed Parse(std::vector<const char*> arguments) {
  CLI::App app("a program");
  app.require_subcommand(1);
  CLI::App* bench = app.add_subcommand("bench", "");
  bench->require_subcommand(1);
  CLI::App* generate = bench->add_subcommand("generate", "");
  std::string model;
  bool json = false;
  generate->add_option("--model", model)->required();
  generate->add_flag("--json", json);
  arguments.insert(arguments.begin(), "program");
  std::ostringstream out, err;
  Parsed parsed;
  parsed.exit = ParseArguments(app, static_cast<int>(arguments.size()), arguments.data(), out, err);
  parsed.out = out.str();
  parsed.err = err.str();
  return parsed;
}

TEST(ParseArgumentsTest, SoundArgumentsGoOnInSilence) {
  const Parsed parsed = Parse({"bench", "generate", "--model", "x"});
  EXPECT_FALSE(parsed.exit.has_value());
  EXPECT_EQ(parsed.out + parsed.err, "");
}

TEST(ParseArgumentsTest, WrongOnesAreAJsonErrorThatNamesTheCommand) {
  for (const auto& arguments : {std::vector<const char*>{"bench", "generate", "--json"},
                                {"bench", "generate", "--json", "--model", "x", "--modle", "y"}}) {
    const Parsed parsed = Parse(arguments);
    EXPECT_EQ(parsed.exit, 1);
    EXPECT_EQ(parsed.err, "");
    const Json error = Json::parse(parsed.out)["error"];
    EXPECT_EQ(error["code"], "INVALID_ARGUMENT");
    EXPECT_EQ(error["where"], "bench generate");
    EXPECT_NE(error["message"].get<std::string>().find("--mod"), std::string::npos) << error;
  }
}

TEST(ParseArgumentsTest, WithoutJsonTheyAreOneLineOfText) {
  const Parsed parsed = Parse({"bench", "generate"});
  EXPECT_EQ(parsed.exit, 1);
  EXPECT_EQ(parsed.out, "");
  EXPECT_EQ(parsed.err, "tramontane bench generate: --model is required\n");
}

TEST(ParseArgumentsTest, AnUnknownCommandIsNamed) {
  const Parsed parsed = Parse({"fly", "--json"});
  EXPECT_EQ(parsed.exit, 1);
  EXPECT_EQ(Json::parse(parsed.out)["error"]["where"], "fly");
}

TEST(ParseArgumentsTest, HelpIsNoError) {
  const Parsed parsed = Parse({"bench", "--help"});
  EXPECT_EQ(parsed.exit, 0);
  EXPECT_NE(parsed.out.find("generate"), std::string::npos);
}

}  // namespace
}  // namespace tramontane
