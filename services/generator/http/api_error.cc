#include "services/generator/http/api_error.h"

#include <nlohmann/json.hpp>

#include "absl/strings/cord.h"

namespace tramontane {
namespace {

constexpr char kParam[] = "tramontane/api/param", kCode[] = "tramontane/api/code";
constexpr int kRetryAfterS = 1;

struct Shape {
  int status;
  const char* type;
  const char* code;  // where none was given; null: none
};

Shape ShapeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument: return {400, "invalid_request_error", nullptr};
    case absl::StatusCode::kNotFound: return {404, "invalid_request_error", "not_found"};
    case absl::StatusCode::kAborted:
      return {409, "invalid_request_error", "conflict"};
    case absl::StatusCode::kOutOfRange: return {413, "invalid_request_error", "too_large"};
    case absl::StatusCode::kFailedPrecondition:
      return {422, "invalid_request_error", "unprocessable"};
    case absl::StatusCode::kResourceExhausted: return {429, "rate_limit_error", "queue_full"};
    case absl::StatusCode::kUnavailable: return {503, "server_error", "unavailable"};
    case absl::StatusCode::kDeadlineExceeded: return {504, "timeout_error", "timeout"};
    default: return {500, "server_error", "internal_error"};
  }
}

nlohmann::json Payload(const absl::Status& status, const char* key, const char* otherwise) {
  const auto payload = status.GetPayload(key);
  if (payload.has_value()) return std::string(*payload);
  return otherwise == nullptr ? nlohmann::json() : nlohmann::json(otherwise);
}

absl::Status With(absl::Status status, const char* key, const std::string& value) {
  if (!status.ok()) status.SetPayload(key, absl::Cord(value));
  return status;
}

}  // namespace

absl::Status WithParam(absl::Status status, const std::string& param) {
  return With(std::move(status), kParam, param);
}

absl::Status WithCode(absl::Status status, const std::string& code) {
  return With(std::move(status), kCode, code);
}

absl::Status WithParamOfMessage(const absl::Status& status, bool chat) {
  if (status.code() != absl::StatusCode::kInvalidArgument) return status;
  const std::string message(status.message());
  std::string field = message.substr(0, message.find_first_of(": "));
  if (field == "prompt_tokens") field = chat ? "messages" : "prompt";
  if (field == "max_new_tokens") field = "max_tokens";
  return WithParam(status, field);
}

absl::Status BadField(const std::string& param, const std::string& message) {
  return WithParam(absl::InvalidArgumentError(param + " " + message), param);
}

std::string ErrorBody(const absl::Status& status) {
  const Shape shape = ShapeOf(status);
  const nlohmann::ordered_json error = {{"message", std::string(status.message())},
                                        {"type", shape.type},
                                        {"param", Payload(status, kParam, nullptr)},
                                        {"code", Payload(status, kCode, shape.code)}};
  return nlohmann::ordered_json{{"error", error}}.dump(
      -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

HttpReply ErrorReply(const absl::Status& status) {
  const int http = ShapeOf(status).status;
  return {.status = http,
          .body = ErrorBody(status),
          .retry_after_s = http == 429 || http == 503 ? kRetryAfterS : 0};
}

}  // namespace tramontane
