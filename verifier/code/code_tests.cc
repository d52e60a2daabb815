#include "verifier/code/code_tests.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "common/status.h"

namespace tramontane {
namespace {

constexpr int32_t kMaxLevel = 99;

absl::Status WrongTests(const std::string& field, const std::string& problem) {
  return absl::InvalidArgumentError("tests: " + field + ": " + problem);
}

absl::StatusOr<std::string> TextField(const Json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end()) return WrongTests(where + "." + key, "missing");
  if (!it->is_string()) return WrongTests(where + "." + key, "must be a string");
  return it->get<std::string>();
}

// LiveCodeBench and APPS write the arguments of a call as one JSON value a line.
absl::StatusOr<Json> ArgumentsOfLines(const std::string& text, const std::string& where) {
  Json arguments = Json::array();
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string line = text.substr(start, end - start);
    start = end + 1;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    Json value = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) return WrongTests(where, "holds a line that is not JSON");
    arguments.push_back(std::move(value));
  }
  return arguments;
}

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<CodeTest> CallTest(Json arguments, Json expected, const std::string& where) {
  if (arguments.is_string()) {
    ASSIGN_OR_RETURN(arguments, ArgumentsOfLines(arguments.get<std::string>(), where));
    Json value =
        expected.is_string() ? Json::parse(expected.get<std::string>(), nullptr, false) : expected;
    if (value.is_discarded()) return WrongTests(where, "expects a result that is not JSON");
    expected = std::move(value);
  }
  if (!arguments.is_array()) return WrongTests(where, "arguments must be an array");
  CodeTest test;
  test.input = Dump(arguments);
  test.output = Dump(expected);
  return test;
}

absl::StatusOr<CodeTest> ReadTest(const Json& item, bool calls, const std::string& where) {
  if (!item.is_object()) return WrongTests(where, "must be an object");
  CodeTest test;
  if (calls && item.contains("args")) {
    if (!item["args"].is_array()) return WrongTests(where + ".args", "must be an array");
    if (!item.contains("expected")) return WrongTests(where + ".expected", "missing");
    test.input = Dump(item["args"]);
    test.output = Dump(item["expected"]);
  } else if (calls) {
    ASSIGN_OR_RETURN(const std::string input, TextField(item, "input", where));
    ASSIGN_OR_RETURN(const std::string output, TextField(item, "output", where));
    ASSIGN_OR_RETURN(test, CallTest(input, output, where));
  } else {
    ASSIGN_OR_RETURN(test.input, TextField(item, "input", where));
    ASSIGN_OR_RETURN(test.output, TextField(item, "output", where));
  }
  if (const auto level = item.find("level"); level != item.end()) {
    if (!level->is_number_integer() || level->get<int64_t>() < 0 ||
        level->get<int64_t>() > kMaxLevel) {
      return WrongTests(where + ".level", "must be a whole number from 0 to 99");
    }
    test.level = level->get<int32_t>();
  }
  return test;
}

// {"inputs": […], "outputs": […]}
absl::Status ReadColumns(const Json& document, CodeTests& tests) {
  const Json& inputs = document["inputs"];
  const auto outputs = document.find("outputs");
  if (outputs == document.end()) return WrongTests("outputs", "missing");
  if (!inputs.is_array() || !outputs->is_array() || inputs.size() != outputs->size()) {
    return WrongTests("inputs", "and outputs must be arrays of one length");
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string where = "inputs[" + std::to_string(i) + "]";
    if (!tests.function.empty()) {
      ASSIGN_OR_RETURN(CodeTest test, CallTest(inputs[i], (*outputs)[i], where));
      test.maybe_wrapped = true;
      tests.tests.push_back(std::move(test));
      continue;
    }
    if (!inputs[i].is_string() || !(*outputs)[i].is_string()) {
      return WrongTests(where, "and its output must be strings");
    }
    tests.tests.push_back({inputs[i].get<std::string>(), (*outputs)[i].get<std::string>()});
  }
  return absl::OkStatus();
}

absl::Status ReadRows(const Json& rows, CodeTests& tests) {
  if (!rows.is_array()) return WrongTests("tests", "must be an array");
  for (size_t i = 0; i < rows.size(); ++i) {
    ASSIGN_OR_RETURN(CodeTest test, ReadTest(rows[i], !tests.function.empty(),
                                             "tests[" + std::to_string(i) + "]"));
    tests.tests.push_back(std::move(test));
  }
  return absl::OkStatus();
}

absl::Status ReadLevelScores(const Json& document, CodeTests& tests) {
  int32_t levels = 0;
  for (const CodeTest& test : tests.tests) levels = std::max(levels, test.level + 1);
  std::vector<bool> used(static_cast<size_t>(levels));
  for (const CodeTest& test : tests.tests) used[static_cast<size_t>(test.level)] = true;
  if (std::find(used.begin(), used.end(), false) != used.end()) {
    return WrongTests("level", "levels must count up from 0 without a gap");
  }
  tests.level_scores.assign(static_cast<size_t>(levels), 1.0 / levels);
  if (!document.is_object() || !document.contains("level_scores")) return absl::OkStatus();
  const Json& scores = document["level_scores"];
  if (!scores.is_array() || scores.size() != static_cast<size_t>(levels)) {
    return WrongTests("level_scores", "must be an array with one number for each level");
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!scores[i].is_number() || !(scores[i].get<double>() > 0)) {
      return WrongTests("level_scores", "must be positive numbers");
    }
    tests.level_scores[i] = scores[i].get<double>();
  }
  const double sum = std::accumulate(tests.level_scores.begin(), tests.level_scores.end(), 0.0);
  if (!std::isfinite(sum)) return WrongTests("level_scores", "must be finite");
  for (double& score : tests.level_scores) score /= sum;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CodeTests> ParseCodeTests(const std::string& answer) {
  const Json document = Json::parse(answer, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || (!document.is_object() && !document.is_array())) {
    return absl::InvalidArgumentError(
        "tests: the answer of a code row must be JSON: {\"tests\": [{\"input\", \"output\"}]}");
  }
  return ReadCodeTests(document);
}

absl::StatusOr<CodeTests> ReadCodeTests(const Json& document) {
  CodeTests tests;
  if (document.is_array()) {
    RETURN_IF_ERROR(ReadRows(document, tests));
  } else {
    for (const char* key : {"function", "fn_name"}) {
      if (!document.contains(key) || document[key].is_null()) continue;
      ASSIGN_OR_RETURN(tests.function, TextField(document, key, "document"));
    }
    if (document.contains("inputs")) {
      RETURN_IF_ERROR(ReadColumns(document, tests));
    } else if (document.contains("tests")) {
      RETURN_IF_ERROR(ReadRows(document["tests"], tests));
    } else {
      return WrongTests("tests", "missing");
    }
  }
  if (tests.tests.empty()) return WrongTests("tests", "there are none");
  if (tests.tests.size() > kMaxCodeTests) return WrongTests("tests", "more than 1000");
  RETURN_IF_ERROR(ReadLevelScores(document, tests));
  return tests;
}

}  // namespace tramontane
