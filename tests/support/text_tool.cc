// Answers one JSON request a line with one JSON answer a line, so that tests in other languages can
// compare the text library with its peers: {"model": DIR, "call": "tokenize"|"template"|"stream",
// "in": {…}}. "stream" takes {"ids": […]} and gives the pieces of an IncrementalDecoder.
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "common/status.h"
#include "text/tokenizer.h"
#include "text/tools.h"

namespace tramontane {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

absl::StatusOr<json> Stream(const std::string& model_dir, const ordered_json& in) {
  ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::Load(model_dir));
  json out = {{"texts", json::array()}};
  IncrementalDecoder decoder(tokenizer);
  for (const ordered_json& row : in.at("ids")) {
    std::string text;
    for (const ordered_json& id : row) text += decoder.Push(id.get<int32_t>());
    text += decoder.Finish();
    out["texts"].push_back(text);
  }
  return out;
}

absl::StatusOr<json> Answer(const ordered_json& request) {
  const std::string model = request.at("model");
  const std::string call = request.at("call");
  if (call == "tokenize") return TokenizeTool(model, request.at("in"));
  if (call == "template") return TemplateTool(model, request.at("in"));
  if (call == "stream") return Stream(model, request.at("in"));
  return absl::InvalidArgumentError("call: unknown");
}

int Main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const absl::StatusOr<json> answer = Answer(ordered_json::parse(line));
    const json out =
        answer.ok() ? *answer : json{{"error", std::string(answer.status().message())}};
    std::cout << out.dump() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace tramontane

int main() { return tramontane::Main(); }
