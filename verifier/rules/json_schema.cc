// JSON Schema (drafts 4 to 7) by valijson. Its `pattern` uses std::regex, which backtracks and
// recurses once a character: an answer could hang or crash it. So before a document is validated,
// each `pattern` of the schema is replaced by the list of the document's own strings that match it
// under RE2, which says the same of this document. `patternProperties` and `format` are refused.
#include <re2/re2.h>

// Else the library ends the process at a schema that is wrong.
#define VALIJSON_USE_EXCEPTIONS 1
#include <set>
#include <string>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "common/status.h"
#include "verifier/rules/patterns.h"
#include "verifier/rules/params.h"
#include "verifier/rules/rule.h"
#include "verifier/rules/text.h"

namespace tramontane {
namespace {

using nlohmann::json;

constexpr size_t kMaxDocumentBytes = 1 << 18;
constexpr int kMaxDocumentDepth = 64;
constexpr int kMaxSchemaDepth = 64;
constexpr size_t kMaxStrings = 4096;  // in a document, when the schema has patterns

const char* const kAnnotations[] = {"description", "title", "default", "examples", "const", "enum"};

bool IsAnnotation(const std::string& key) {
  for (const char* annotation : kAnnotations) {
    if (key == annotation) return true;
  }
  return false;
}

// Keywords that cannot be followed, and patterns that RE2 does not know. `properties` maps names,
// which are no keywords.
absl::Status CheckKeywords(const json& schema, bool names, int depth) {
  if (depth > kMaxSchemaDepth) return absl::InvalidArgumentError("is nested too deeply");
  if (schema.is_array()) {
    for (const json& item : schema) RETURN_IF_ERROR(CheckKeywords(item, false, depth + 1));
    return absl::OkStatus();
  }
  if (!schema.is_object()) return absl::OkStatus();
  for (const auto& [key, value] : schema.items()) {
    if (!names) {
      if (IsAnnotation(key)) continue;
      if (key == "patternProperties") {
        return absl::InvalidArgumentError("patternProperties is not supported");
      }
      if (key == "$ref" && (!value.is_string() || !value.get<std::string>().starts_with("#"))) {
        return absl::InvalidArgumentError("$ref must point into the schema itself (#/…)");
      }
      if (key == "pattern") {
        if (!value.is_string()) return absl::InvalidArgumentError("pattern must be a string");
        const re2::RE2 pattern(value.get<std::string>(), PatternOptions());
        if (!pattern.ok()) return absl::InvalidArgumentError("pattern: " + pattern.error());
        continue;
      }
    }
    const bool inner_names = !names && (key == "properties" || key == "definitions" ||
                                        key == "$defs" || key == "dependencies");
    RETURN_IF_ERROR(CheckKeywords(value, inner_names, depth + 1));
  }
  return absl::OkStatus();
}

void CollectStrings(const json& document, std::set<std::string>& strings) {
  if (document.is_string()) strings.insert(document.get<std::string>());
  for (const auto& item : document.items()) {
    if (document.is_object()) strings.insert(item.key());
    if (document.is_structured()) CollectStrings(item.value(), strings);
  }
}

// The schema with each pattern as a list of strings; `format` is an annotation and goes.
json Rewritten(const json& schema, const std::set<std::string>& strings, bool names) {
  if (schema.is_array()) {
    json out = json::array();
    for (const json& item : schema) out.push_back(Rewritten(item, strings, false));
    return out;
  }
  if (!schema.is_object()) return schema;
  json out = json::object();
  for (const auto& [key, value] : schema.items()) {
    if (!names && (key == "format" || key == "pattern")) continue;
    const bool inner_names = !names && (key == "properties" || key == "definitions" ||
                                        key == "$defs" || key == "dependencies");
    out[key] = !names && IsAnnotation(key) ? value : Rewritten(value, strings, inner_names);
  }
  if (names || !schema.contains("pattern")) return out;
  const re2::RE2 pattern(schema["pattern"].get<std::string>(), PatternOptions());
  json matching = json::array();
  for (const std::string& text : strings) {
    if (re2::RE2::PartialMatch(text, pattern)) matching.push_back(text);
  }
  json allowed = {{{"not", {{"type", "string"}}}}};
  if (!matching.empty()) allowed.push_back({{"enum", matching}});
  return {{"allOf", {out, {{"anyOf", allowed}}}}};
}

absl::StatusOr<json> SchemaOf(const Json& params) {
  if (!params.is_object() || !params.contains("schema") || !params["schema"].is_object()) {
    return absl::InvalidArgumentError("params.schema: must be a JSON Schema (an object)");
  }
  if (const absl::Status usable = CheckKeywords(params["schema"], false, 0); !usable.ok()) {
    return Annotate(usable, "params.schema");
  }
  return json(params["schema"]);
}

// Absent when it is not JSON, or nested too deeply.
std::optional<json> ReadDocument(std::string_view text) {
  if (text.size() > kMaxDocumentBytes) return std::nullopt;
  bool too_deep = false;
  const auto limit = [&too_deep](int depth, json::parse_event_t, json&) {
    too_deep |= depth > kMaxDocumentDepth;
    return depth <= kMaxDocumentDepth;
  };
  json document = json::parse(text, limit, /*allow_exceptions=*/false);
  if (document.is_discarded() || too_deep) return std::nullopt;
  return document;
}

absl::StatusOr<Judgement> JudgeSchema(const std::string& text, const std::string&, const Json& params) {
  ASSIGN_OR_RETURN(const json schema_document, SchemaOf(params));
  const std::string_view found = WithoutFence(text);
  Judgement judgement{false, 0, std::string(found), "is no JSON document"};
  const std::optional<json> document = ReadDocument(found);
  if (!document) return judgement;
  std::set<std::string> strings;
  CollectStrings(*document, strings);
  if (strings.size() > kMaxStrings) {
    judgement.feedback = "the document has too many strings";
    return judgement;
  }
  const json rewritten = Rewritten(schema_document, strings, false);
  valijson::Schema schema;
  try {  // the library's only way to say that a schema is wrong
    valijson::adapters::NlohmannJsonAdapter adapter(rewritten);
    valijson::SchemaParser().populateSchema(adapter, schema);
    valijson::Validator validator;
    valijson::adapters::NlohmannJsonAdapter target(*document);
    valijson::ValidationResults results;
    judgement.correct = validator.validate(schema, target, &results);
    judgement.share = judgement.correct ? 1 : 0;
    judgement.feedback = judgement.correct ? "matches the schema" : "breaks the schema";
    valijson::ValidationResults::Error error;
    if (results.popError(error)) judgement.feedback += ": " + error.description;
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(std::string("params.schema: ") + e.what());
  }
  return judgement;
}

}  // namespace

AnswerRule JsonSchemaRule() {
  return {"json_schema",
          "1.0.0",
          /*boxed=*/false,
          JudgeSchema,
          [](const std::string& gold, const Json& params) -> absl::Status {
            // The empty object meets or breaks any schema; what counts is that the schema is one.
            return JudgeSchema("{}", gold, params).status();
          },
          ParamsSchema({{"schema", {{"type", "object"}}}})};
}

}  // namespace tramontane
