#include "services/generator/http/chat_prompt.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "services/generator/http/api_error.h"

namespace tramontane {
namespace {

absl::Status Unprocessable(const std::string& param, const std::string& message) {
  return WithParam(absl::FailedPreconditionError(message), param);
}

// Parts of text become one text, a line each; most templates know nothing else.
absl::Status JoinParts(OrderedJson& content, const std::string& param) {
  if (!content.is_array()) return absl::OkStatus();
  std::string text;
  for (const OrderedJson& part : content) {
    const bool is_text = part.is_object() && part.value("type", OrderedJson()) == "text" &&
                         part.contains("text") && part["text"].is_string();
    if (!is_text) return Unprocessable(param, param + ": this model reads text alone");
    if (!text.empty()) text += '\n';
    text += part["text"].get<std::string>();
  }
  content = std::move(text);
  return absl::OkStatus();
}

absl::Status ReadMessages(const OrderedJson* messages, OrderedJson& context) {
  if (messages == nullptr) return BadField("messages", "is missing");
  if (!messages->is_array() || messages->empty()) {
    return BadField("messages", "must be a list with at least one message");
  }
  context["messages"] = *messages;
  for (size_t i = 0; i < messages->size(); ++i) {
    OrderedJson& message = context["messages"][i];
    const std::string param = "messages[" + std::to_string(i) + "]";
    if (!message.is_object()) return BadField(param, "must be an object");
    if (!message.contains("role") || !message["role"].is_string()) {
      return BadField(param + ".role", "must be a text");
    }
    if (!message.contains("content")) continue;  // an assistant's tool calls may stand alone
    OrderedJson& content = message["content"];
    RETURN_IF_ERROR(JoinParts(content, param + ".content"));
    if (!content.is_string() && !content.is_null()) {
      return BadField(param + ".content", "must be a text or a list of parts");
    }
  }
  return absl::OkStatus();
}

// Templates take the arguments of an earlier tool call as an object; clients send its text.
void ParseToolArguments(OrderedJson& messages) {
  for (OrderedJson& message : messages) {
    if (!message.contains("tool_calls") || !message["tool_calls"].is_array()) continue;
    for (OrderedJson& call : message["tool_calls"]) {
      if (!call.is_object() || !call.contains("function")) continue;
      OrderedJson& function = call["function"];
      if (!function.is_object() || !function.contains("arguments")) continue;
      if (!function["arguments"].is_string()) continue;
      OrderedJson parsed = OrderedJson::parse(function["arguments"].get<std::string>(), nullptr,
                                              /*allow_exceptions=*/false);
      if (parsed.is_object()) function["arguments"] = std::move(parsed);
    }
  }
}

absl::Status ReadTools(FieldReader& fields, OrderedJson& context) {
  fields.Ignore({"parallel_tool_calls"});
  const OrderedJson* tools = fields.Find("tools");
  const OrderedJson* choice = fields.Find("tool_choice");
  if (choice != nullptr && *choice != "auto" && *choice != "none") {
    return Unprocessable("tool_choice",
                         "tool_choice can only be \"auto\" or \"none\": calls are "
                         "not forced, and stay in the content");
  }
  if (tools == nullptr) return absl::OkStatus();
  if (!tools->is_array()) return BadField("tools", "must be a list");
  if (choice == nullptr || *choice != "none") context["tools"] = *tools;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OrderedJson> ReadChatContext(FieldReader& fields) {
  OrderedJson context = OrderedJson::object();
  RETURN_IF_ERROR(ReadMessages(fields.Find("messages"), context));
  ParseToolArguments(context["messages"]);
  RETURN_IF_ERROR(ReadTools(fields, context));
  if (const OrderedJson* documents = fields.Find("documents")) context["documents"] = *documents;
  bool continues = false;
  fields.Read("continue_final_message", continues);
  bool generation_prompt = !continues;
  fields.Read("add_generation_prompt", generation_prompt);
  if (continues && generation_prompt) {
    return BadField("add_generation_prompt", "excludes continue_final_message");
  }
  context["add_generation_prompt"] = generation_prompt;
  if (continues) context["continue_final_message"] = true;
  std::string effort;
  fields.Read("reasoning_effort", effort);
  if (!effort.empty()) context["reasoning_effort"] = effort;
  if (const OrderedJson* extra = fields.Find("chat_template_kwargs")) {
    if (!extra->is_object()) return BadField("chat_template_kwargs", "must be an object");
    for (const auto& [name, value] : extra->items()) {
      if (name == "messages") return BadField("chat_template_kwargs", "cannot hold messages");
      context[name] = value;
    }
  }
  return context;
}

absl::StatusOr<std::string> RenderChat(const OrderedJson& context,
                                       const ChatTemplate* chat_template) {
  if (chat_template == nullptr) {
    return Unprocessable("messages", "this model has no chat template; use /v1/completions");
  }
  absl::StatusOr<std::string> text = chat_template->Render(context);
  if (!text.ok()) return WithParam(text.status(), "messages");
  return text;
}

std::string AnswerOpening(const OrderedJson& context, const std::string& text,
                          const ChatTemplate& chat_template) {
  OrderedJson before = context;
  before["add_generation_prompt"] = false;
  if (before.erase("continue_final_message") > 0) {
    before["messages"].erase(before["messages"].size() - 1);
  }
  absl::StatusOr<std::string> earlier = std::string();
  if (!before["messages"].empty()) earlier = chat_template.Render(before);
  if (!earlier.ok()) return text;
  const auto differ = std::mismatch(earlier->begin(), earlier->end(), text.begin(), text.end());
  return {differ.second, text.end()};
}

bool EndsInsideTags(const std::string& opening, const std::string& open, const std::string& close) {
  const size_t opened = opening.rfind(open);
  return opened != std::string::npos && opening.find(close, opened) == std::string::npos;
}

}  // namespace tramontane
