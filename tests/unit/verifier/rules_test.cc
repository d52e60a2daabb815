// The graders besides math, through the interface that everybody uses.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "verifier/grader.h"
#include "verifier/rules/instructions.h"

namespace tramontane {
namespace {

RewardSection NoGate() {
  RewardSection reward;
  reward.require_think = false;
  reward.require_boxed = false;
  return reward;
}

struct Case {
  const char* gold;
  const char* text;
  const char* params;
  bool correct;
};

void ExpectVerdicts(const std::string& name, const std::vector<Case>& cases) {
  const auto grader = MakeBuiltinGrader(name, NoGate());
  ASSERT_TRUE(grader.ok()) << grader.status();
  for (const Case& c : cases) {
    GradeRequest request;
    request.answer = c.gold;
    request.completion = c.text;
    request.params = Json::parse(c.params);
    EXPECT_TRUE((*grader)->CheckRow(request.answer, request.params).ok())
        << c.gold << " " << c.params << ": " << (*grader)->CheckRow(request.answer, request.params);
    const Verdict verdict = (*grader)->Grade(request);
    EXPECT_EQ(verdict.status, VerdictStatus::kScored) << verdict.feedback;
    EXPECT_EQ(verdict.correct, c.correct) << name << ": gold " << c.gold << ", text " << c.text
                                          << ", params " << c.params << ": " << verdict.feedback;
    EXPECT_EQ(verdict.score, c.correct ? 1.0 : 0.1);
    EXPECT_EQ((*grader)->GradeBare(request).score, c.correct ? 1.0 : 0.0);
  }
}

void ExpectRowFault(const std::string& name, const std::string& gold, const std::string& params,
                    const std::string& said) {
  const auto grader = MakeBuiltinGrader(name, NoGate());
  ASSERT_TRUE(grader.ok());
  const absl::Status status = (*grader)->CheckRow(gold, Json::parse(params));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name << " " << gold << params;
  EXPECT_NE(std::string(status.message()).find(said), std::string::npos) << status;
}

TEST(ChoiceTest, FindsTheLetterHoweverItIsWritten) {
  ExpectVerdicts("choice", {{"B", "B", "{}", true},
                            {"B", "(B)", "{}", true},
                            {"(B)", "b", "{}", true},
                            {"B", "**B**", "{}", true},
                            {"B", "B. Paris", "{}", true},
                            {"B", "B) Paris", "{}", true},
                            {"B", "\\boxed{B}", "{}", true},
                            {"B", "\\boxed{\\text{(B)}}", "{}", true},
                            {"B", "The answer is (B).", "{}", true},
                            {"B", "Option A is wrong, so the answer is B", "{}", true},
                            {"B", "The answer is A, not B", "{}", false},
                            {"B", "C", "{}", false},
                            {"B", "Because", "{}", false},
                            {"B", "", "{}", false},
                            {"B", "Paris", R"({"choices": ["Rome", "Paris"]})", true},
                            {"B", "paris", R"({"choices": ["Rome", "Paris"]})", true},
                            {"B", "Rome", R"({"choices": ["Rome", "Paris"]})", false},
                            {"B", "\\boxed{A} or \\boxed{B}", "{}", true},
                            {"A", "\\boxed{A} or \\boxed{B}", "{}", false}});
  ExpectRowFault("choice", "Paris", "{}", "letter");
  ExpectRowFault("choice", "C", R"({"choices": ["Rome", "Paris"]})", "2 choices");
  ExpectRowFault("choice", "A", R"({"choices": "AB"})", "params.choices");
}

TEST(ExactTest, ComparesTextAsTheRowSays) {
  ExpectVerdicts("exact", {{"cba", " cba\n", "{}", true},
                           {"cba", "CBA", "{}", false},
                           {"cba", "CBA", R"({"ignore_case": true})", true},
                           {"c b a", "cb  a", R"({"ignore_space": true})", true},
                           {"c b a", "cb  a", "{}", false}});
  ExpectRowFault("exact", " ", "{}", "empty");
  ExpectRowFault("exact", "a", R"({"ignore_case": 1})", "params.ignore_case");
}

TEST(RegexTest, MatchesInLinearTime) {
  ExpectVerdicts("regex", {{"[0-9]+", "123", "{}", true},
                           {"[0-9]+", "x123", "{}", false},
                           {"[0-9]+", "x123", R"({"match": "search"})", true},
                           {"YES", "yes", R"({"ignore_case": true})", true},
                           {"YES", "yes", "{}", false}});
  // A pattern that a backtracking engine needs 2^n steps for.
  const std::string hostile = std::string(200000, 'a') + "b";
  ExpectVerdicts("regex", {{"(a+)+$", hostile.c_str(), "{}", false}});
  ExpectRowFault("regex", "(", "{}", "RE2");
  ExpectRowFault("regex", "(a)\\1", "{}", "RE2");
  ExpectRowFault("regex", "a", R"({"match": "anywhere"})", "params.match");
}

TEST(JsonSchemaTest, ValidatesDocumentsInAndOutOfFences) {
  const char* const schema =
      R"({"schema": {"type": "object", "required": ["name", "age"], "additionalProperties": false,
          "properties": {"name": {"type": "string", "pattern": "^[A-Z][a-z]*$"},
                         "age": {"type": "integer", "minimum": 0}}}})";
  ExpectVerdicts("json_schema",
                 {{"", R"({"name": "Ada", "age": 36})", schema, true},
                  {"", "Here it is:\n```json\n{\"name\": \"Ada\", \"age\": 36}\n```\nDone.", schema, true},
                  {"", R"({"name": "ada", "age": 36})", schema, false},
                  {"", R"({"name": "Ada", "age": -1})", schema, false},
                  {"", R"({"name": "Ada"})", schema, false},
                  {"", R"({"name": "Ada", "age": 36, "x": 1})", schema, false},
                  {"", R"({"name": 5, "age": 36})", schema, false},
                  {"", "no document", schema, false},
                  {"", "", schema, false},
                  {"", "[1, 2", schema, false},
                  {"", R"(["ab", "b"])",
                   R"({"schema": {"items": {"anyOf": [{"pattern": "^a"}, {"pattern": "^b$"}]}}})", true},
                  {"", R"(["ab", "c"])",
                   R"({"schema": {"items": {"anyOf": [{"pattern": "^a"}, {"pattern": "^b$"}]}}})", false},
                  {"", R"({"pattern": "zz"})",
                   R"({"schema": {"properties": {"pattern": {"const": "zz"}}}})", true}});
  ExpectRowFault("json_schema", "", "{}", "params.schema");
  ExpectRowFault("json_schema", "", R"({"schema": {"pattern": "("}})", "pattern");
  ExpectRowFault("json_schema", "", R"({"schema": {"patternProperties": {}}})", "patternProperties");
  ExpectRowFault("json_schema", "", R"({"schema": {"$ref": "http://x/y"}})", "$ref");
  ExpectRowFault("json_schema", "", R"({"schema": {"type": "objekt"}})", "params.schema");
}

TEST(JsonSchemaTest, HostileDocumentsEndAndAreWrong) {
  const auto grader = MakeBuiltinGrader("json_schema", NoGate());
  GradeRequest request;
  request.params = Json::parse(R"({"schema": {"type": "string", "pattern": "^(a+)+$", "maxLength": 9}})");
  for (const std::string& text :
       {std::string(100000, '['), "\"" + std::string(200000, 'a') + "b\"",
        std::string(60000, '{'), "\"" + std::string(1 << 20, 'a') + "\""}) {
    request.completion = text;
    const Verdict verdict = (*grader)->Grade(request);
    EXPECT_EQ(verdict.status, VerdictStatus::kScored);
    EXPECT_FALSE(verdict.correct);
  }
}

struct Instruction {
  const char* id;
  const char* arguments;
  const char* follows;
  const char* breaks;
};

// One text that follows and one that does not, for each of IFEval's instructions.
constexpr Instruction kInstructions[] = {
    {"keywords:existence", R"({"keywords": ["red", "blue"]})", "Red and BLUE.", "Only red."},
    {"keywords:frequency", R"({"keyword": "wind", "frequency": 2, "relation": "at least"})",
     "Wind, wind.", "wind"},
    {"keywords:forbidden_words", R"({"forbidden_words": ["sea"]})", "The season", "The sea."},
    {"keywords:letter_frequency", R"({"letter": "z", "let_frequency": 2, "let_relation": "less than"})",
     "Zoo", "Zoo zip"},
    {"language:response_language", R"({"language": "ru"})", "Привет мир", "Hello world"},
    {"length_constraints:number_sentences", R"({"num_sentences": 3, "relation": "at least"})",
     "One. Two! Three?", "One. Two!"},
    {"length_constraints:number_paragraphs", R"({"num_paragraphs": 2})", "One\n***\nTwo", "One\n\nTwo"},
    {"length_constraints:number_words", R"({"num_words": 3, "relation": "less than"})", "two words",
     "these are three"},
    {"length_constraints:nth_paragraph_first_word",
     R"({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"})", "First.\n\n'Then, more.",
     "First.\n\nNow more."},
    {"detectable_content:number_placeholders", R"({"num_placeholders": 2})", "[name] at [place]",
     "[name]"},
    {"detectable_content:postscript", R"({"postscript_marker": "P.S."})", "Bye.\nP.S. More",
     "Bye. PS more"},
    {"detectable_format:number_bullet_lists", R"({"num_bullets": 2})", "* one\n- two", "* one"},
    {"detectable_format:constrained_response", "{}", "My answer is maybe.", "Maybe."},
    {"detectable_format:number_highlighted_sections", R"({"num_highlights": 2})", "*a* and **b**",
     "*a* and * *"},
    {"detectable_format:multiple_sections", R"({"section_spliter": "Section", "num_sections": 2})",
     "Section 1\na\nSection 2\nb", "Section 1\na"},
    {"detectable_format:json_format", "{}", "```json\n{\"a\": 1}\n```", "{a: 1}"},
    {"detectable_format:title", "{}", "<<The Wind>>\ntext", "<< >>\ntext"},
    {"combination:two_responses", "{}", "One\n******\nTwo", "One\n******\nOne"},
    {"combination:repeat_prompt", R"({"prompt_to_repeat": "Say it"})", "say it\nDone", "Done"},
    {"startend:end_checker", R"({"end_phrase": "The end."})", "Once. the END.\"", "Once."},
    {"startend:quotation", "{}", "\"Quoted\"", "\"Not quoted"},
    {"change_case:capital_word_frequency", R"({"capital_frequency": 2, "capital_relation": "at least"})",
     "LOUD and CLEAR", "LOUD and clear"},
    {"change_case:english_capital", "{}", "ALL OF IT", "All of it"},
    {"change_case:english_lowercase", "{}", "all of it", "All of it"},
    {"punctuation:no_comma", "{}", "no such sign", "one, two"}};

TEST(IfevalTest, EveryInstructionTellsFollowingFromBreaking) {
  std::vector<std::string> tested;
  const auto grader = MakeBuiltinGrader("ifeval", NoGate());
  ASSERT_TRUE(grader.ok());
  for (const Instruction& instruction : kInstructions) {
    GradeRequest request;
    request.params = {{"instruction_id_list", {instruction.id}},
                      {"kwargs", {Json::parse(instruction.arguments)}}};
    EXPECT_TRUE((*grader)->CheckRow("", request.params).ok()) << instruction.id;
    request.completion = instruction.follows;
    EXPECT_TRUE((*grader)->Grade(request).correct) << instruction.id;
    request.completion = instruction.breaks;
    EXPECT_FALSE((*grader)->Grade(request).correct) << instruction.id;
    EXPECT_NE((*grader)->Grade(request).feedback.find(instruction.id), std::string::npos);
    tested.emplace_back(instruction.id);
  }
  std::sort(tested.begin(), tested.end());
  EXPECT_EQ(tested, InstructionIds());
}

TEST(IfevalTest, AllOfThemOrAFractionStrictOrLoose) {
  const auto grader = MakeBuiltinGrader("ifeval", NoGate());
  GradeRequest request;
  request.params = {{"instruction_id_list", {"punctuation:no_comma", "startend:quotation"}}};
  request.completion = "no sign";
  EXPECT_EQ((*grader)->GradeBare(request).score, 0.0);
  request.params["require"] = "fraction";
  EXPECT_EQ((*grader)->GradeBare(request).score, 0.5);
  request.params = {{"instruction_id_list", {"startend:quotation"}}};
  request.completion = "Sure, here it is:\n\"Quoted\"";
  EXPECT_FALSE((*grader)->GradeBare(request).correct);
  request.params["mode"] = "loose";
  EXPECT_TRUE((*grader)->GradeBare(request).correct);
  request.completion = "";
  EXPECT_FALSE((*grader)->GradeBare(request).correct);
}

TEST(IfevalTest, RowsAtFaultAreNamed) {
  ExpectRowFault("ifeval", "", "{}", "instruction_id_list");
  ExpectRowFault("ifeval", "", R"({"instruction_id_list": ["no:such"]})", "no:such");
  ExpectRowFault("ifeval", "", R"({"instruction_id_list": ["keywords:existence"]})", "kwargs.keywords");
  ExpectRowFault("ifeval", "", R"({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}, {}]})",
                 "params.kwargs");
  ExpectRowFault("ifeval", "",
                 R"({"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "fr"}]})",
                 "language_model");
}

}  // namespace
}  // namespace tramontane
