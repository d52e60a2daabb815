// The API's error objects: {"error": {"message", "type", "param", "code"}} with an HTTP status.
// Inside, they are absl::Status; the parameter at fault and the API's code travel as payloads.
//
//   InvalidArgument 400   NotFound 404    Aborted 409    OutOfRange 413 (too large)
//   FailedPrecondition 422 (this model or server cannot)   ResourceExhausted 429   Unavailable 503
//   DeadlineExceeded 504 anything else 500
#pragma once

#include <string>

#include "absl/status/status.h"
#include "services/generator/http/http_exchange.h"

namespace tramontane {

absl::Status WithParam(absl::Status status, const std::string& param);
absl::Status WithCode(absl::Status status, const std::string& code);
// The field that a message begins with ("thinking.budget: …", "prompt_tokens is …") is the
// parameter, by the name that clients know. Other codes than InvalidArgument stay as they are.
absl::Status WithParamOfMessage(const absl::Status& status, bool chat);
// 400 about one field.
absl::Status BadField(const std::string& param, const std::string& message);

std::string ErrorBody(const absl::Status& status);  // the JSON object
HttpReply ErrorReply(const absl::Status& status);

}  // namespace tramontane
