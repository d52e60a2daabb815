#include "text/tools.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "common/status.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tramontane {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

absl::Status CheckKeys(const ordered_json& in, const std::vector<std::string>& known) {
  if (!in.is_object()) return absl::InvalidArgumentError("input: expected a JSON object");
  for (const auto& [key, value] : in.items()) {
    bool found = false;
    for (const std::string& name : known) found = found || name == key;
    if (!found) return absl::InvalidArgumentError("input." + key + ": unknown key");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Flag(const ordered_json& in, const std::string& key) {
  const auto found = in.find(key);
  if (found == in.end()) return false;
  if (!found->is_boolean()) {
    return absl::InvalidArgumentError("input." + key + ": expected true or false");
  }
  return found->get<bool>();
}

absl::StatusOr<std::vector<int32_t>> Ids(const ordered_json& row, const std::string& where) {
  if (!row.is_array()) return absl::InvalidArgumentError(where + ": expected a list of ids");
  std::vector<int32_t> ids;
  for (const ordered_json& id : row) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
        id.get<int64_t>() > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(where + ": expected token ids");
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

absl::StatusOr<json> EncodeAll(const Tokenizer& tokenizer, const ordered_json& in) {
  RETURN_IF_ERROR(CheckKeys(in, {"texts", "add_special_tokens"}));
  ASSIGN_OR_RETURN(const bool special, Flag(in, "add_special_tokens"));
  if (!in["texts"].is_array()) return absl::InvalidArgumentError("input.texts: expected a list");
  json out = {{"ids", json::array()}};
  for (const ordered_json& text : in["texts"]) {
    if (!text.is_string()) return absl::InvalidArgumentError("input.texts: expected text");
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                     tokenizer.Encode(text.get<std::string>(), special));
    out["ids"].push_back(ids);
  }
  return out;
}

absl::StatusOr<json> DecodeAll(const Tokenizer& tokenizer, const ordered_json& in) {
  RETURN_IF_ERROR(CheckKeys(in, {"ids", "skip_special_tokens"}));
  ASSIGN_OR_RETURN(const bool skip, Flag(in, "skip_special_tokens"));
  if (!in["ids"].is_array()) return absl::InvalidArgumentError("input.ids: expected a list");
  json out = {{"texts", json::array()}};
  size_t index = 0;
  for (const ordered_json& row : in["ids"]) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                     Ids(row, "input.ids[" + std::to_string(index++) + "]"));
    ASSIGN_OR_RETURN(const std::string text, tokenizer.Decode(ids, skip));
    out["texts"].push_back(text);
  }
  return out;
}

}  // namespace

absl::StatusOr<json> TokenizeTool(const std::string& model_dir, const ordered_json& in) {
  if (!in.is_object() || in.contains("texts") == in.contains("ids")) {
    return absl::InvalidArgumentError("input: expected either \"texts\" or \"ids\"");
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::Load(model_dir));
  return in.contains("texts") ? EncodeAll(*tokenizer, in) : DecodeAll(*tokenizer, in);
}

absl::StatusOr<json> TemplateTool(const std::string& model_dir, const ordered_json& in) {
  if (!in.is_object() || !in.contains("messages")) {
    return absl::InvalidArgumentError("input.messages: missing");
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const ChatTemplate> chat_template,
                   ChatTemplate::Load(model_dir));
  ASSIGN_OR_RETURN(const std::string text, chat_template->Render(in));
  return json{{"text", text}};
}

}  // namespace tramontane
