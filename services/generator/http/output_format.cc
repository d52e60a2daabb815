#include "services/generator/http/output_format.h"

#include <string>
#include <utility>

#include "common/status.h"
#include "services/generator/http/api_error.h"

namespace tramontane {
namespace {

std::string EscapedForRegex(const std::string& text) {
  static const std::string special = R"(\.+*?()|[]{}^$#&-~/)";
  std::string escaped;
  for (const char c : text) {
    if (special.find(c) != std::string::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

// Collects what is asked for, and complains about the second time.
class FormatReader {
 public:
  explicit FormatReader(FieldReader& fields) : fields_(fields) {}

  void Schema(const std::string& param, const OrderedJson& schema) {
    // A schema may come as its text.
    Ask(param, false, schema.is_string() ? schema.get<std::string>() : schema.dump());
  }
  void Regex(const std::string& param, const OrderedJson& regex) {
    if (!regex.is_string()) return fields_.Fail(param, "must be a text");
    Ask(param, true, regex.get<std::string>());
  }
  void Choice(const std::string& param, const OrderedJson& choices) {
    std::string regex;
    const bool is_list = choices.is_array() && !choices.empty();
    for (const OrderedJson& choice : is_list ? choices : OrderedJson::array({nullptr})) {
      if (!choice.is_string()) return fields_.Fail(param, "must be a list of texts");
      regex += (regex.empty() ? "(" : "|(") + EscapedForRegex(choice.get<std::string>()) + ")";
    }
    Ask(param, true, std::move(regex));
  }

  OutputFormat Take() { return std::move(format_); }

 private:
  void Ask(const std::string& param, bool is_regex, std::string source) {
    if (!format_.param.empty()) {
      return fields_.Fail(param, "excludes " + format_.param);
    }
    format_ = {param, {is_regex, std::move(source)}};
  }

  FieldReader& fields_;
  OutputFormat format_;
};

void ReadResponseFormat(FieldReader& fields, FormatReader& formats) {
  const OrderedJson* format = fields.Find("response_format");
  if (format == nullptr) return;
  const std::string type =
      format->is_object() && format->contains("type") && (*format)["type"].is_string()
          ? (*format)["type"].get<std::string>()
          : "";
  if (type == "text") return;
  if (type == "json_object") {
    return formats.Schema("response_format", OrderedJson{{"type", "object"}});
  }
  if (type != "json_schema") {
    return fields.Fail("response_format", "must have type text, json_object or json_schema");
  }
  const auto inner = format->find("json_schema");
  if (inner == format->end() || !inner->is_object() || !inner->contains("schema")) {
    return fields.Fail("response_format", "needs json_schema.schema");
  }
  formats.Schema("response_format", (*inner)["schema"]);
}

void ReadStructuredOutputs(FieldReader& fields, FormatReader& formats) {
  const OrderedJson* outputs = fields.Find("structured_outputs");
  if (outputs == nullptr) return;
  if (!outputs->is_object()) return fields.Fail("structured_outputs", "must be an object");
  FieldReader inner(*outputs, "structured_outputs.");
  if (const OrderedJson* schema = inner.Find("json")) {
    formats.Schema("structured_outputs", *schema);
  }
  if (const OrderedJson* regex = inner.Find("regex")) formats.Regex("structured_outputs", *regex);
  if (const OrderedJson* choice = inner.Find("choice")) {
    formats.Choice("structured_outputs", *choice);
  }
  if (const absl::Status status = inner.Finish(); !status.ok()) {
    fields.Fail("structured_outputs", "is wrong: " + std::string(status.message()));
  }
}

}  // namespace

OutputFormat ReadOutputFormat(FieldReader& fields) {
  FormatReader formats(fields);
  ReadResponseFormat(fields, formats);
  ReadStructuredOutputs(fields, formats);
  if (const OrderedJson* schema = fields.Find("guided_json")) {
    formats.Schema("guided_json", *schema);
  }
  if (const OrderedJson* regex = fields.Find("guided_regex")) formats.Regex("guided_regex", *regex);
  if (const OrderedJson* choice = fields.Find("guided_choice")) {
    formats.Choice("guided_choice", *choice);
  }
  return formats.Take();
}

absl::Status SetGrammar(const OutputFormat& format, const ServedModel& model,
                        CompletionRequest& request) {
  if (format.param.empty()) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<const Grammar>> grammar = model.grammars->Compile(format.source);
  if (!grammar.ok()) {
    return WithCode(WithParam(Annotate(grammar.status(), format.param), format.param),
                    "invalid_grammar");
  }
  request.grammar = *std::move(grammar);
  // A model that thinks first follows the grammar behind its thoughts.
  if (request.reasoning_open) {
    request.grammar_after_token = model.tokenizer->TokenId(model.think_close);
    if (request.grammar_after_token < 0) {
      return WithParam(absl::FailedPreconditionError(
                           format.param + ": this model's closing tag " + model.think_close +
                           " is not one token, so a grammar cannot begin behind its thoughts"),
                       format.param);
    }
  }
  return absl::OkStatus();
}

}  // namespace tramontane
