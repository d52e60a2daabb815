#include "services/tool_main.h"

#include <iterator>

namespace tramontane {
namespace {

// Documents on standard input are prompts and token lists; anything larger is a mistake.
constexpr size_t kMaxInputBytes = size_t{1} << 30;

using OrderedJson = nlohmann::ordered_json;

absl::StatusOr<OrderedJson> ReadDocument(std::istream& in) {
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof(buffer)), in.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxInputBytes) return absl::InvalidArgumentError("more than 1 GiB of input");
  }
  OrderedJson document = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return absl::InvalidArgumentError("not a JSON document");
  return document;
}

}  // namespace

int PrintJsonResult(const std::string& where, std::ostream& out,
                    const absl::StatusOr<Json>& result) {
  // Invalid UTF-8 (a byte-level token cut in half) is replaced rather than thrown at the caller.
  const auto dump = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  if (result.ok()) {
    out << dump(*result) << std::endl;
    return 0;
  }
  const Json error = {{"code", absl::StatusCodeToString(result.status().code())},
                      {"message", std::string(result.status().message())},
                      {"where", where}};
  out << dump(Json{{"error", error}}) << std::endl;
  return 1;
}

int RunJsonTool(const std::string& where, std::istream& in, std::ostream& out,
                const std::function<absl::StatusOr<Json>(const OrderedJson&)>& tool) {
  const absl::StatusOr<OrderedJson> input = ReadDocument(in);
  if (!input.ok()) return PrintJsonResult(where + ": standard input", out, input.status());
  return PrintJsonResult(where, out, tool(*input));
}

}  // namespace tramontane
