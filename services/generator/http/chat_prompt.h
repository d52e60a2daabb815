// The conversation of a chat request as text for the model. Pure; any thread.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "services/generator/http/field_reader.h"
#include "text/chat_template.h"

namespace tramontane {

// Reads messages, tools, tool_choice, documents, add_generation_prompt, continue_final_message,
// reasoning_effort and chat_template_kwargs into the template's context. Contents given as parts
// are joined; parts that are no text are refused (422).
absl::StatusOr<OrderedJson> ReadChatContext(FieldReader& fields);

// 422 when the model has no template (null). 400 when the template refuses the messages.
absl::StatusOr<std::string> RenderChat(const OrderedJson& context,
                                       const ChatTemplate* chat_template);

// The end of `text`, which RenderChat made of `context`, that belongs to the answer: what the
// template begins it with, or the message to be continued. Never what somebody else said.
std::string AnswerOpening(const OrderedJson& context, const std::string& text,
                          const ChatTemplate& chat_template);

// Whether the last opening tag of `opening` is not closed again.
bool EndsInsideTags(const std::string& opening, const std::string& open, const std::string& close);

}  // namespace tramontane
