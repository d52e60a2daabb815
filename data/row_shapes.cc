#include "data/row_shapes.h"

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace tramontane {

using nlohmann::ordered_json;

namespace {

using Keys = std::vector<std::string>;

struct ShapeName {
  RowShape shape;
  const char* name;
};
constexpr ShapeName kShapes[] = {{RowShape::kTramontane, "tramontane"},
                                 {RowShape::kVerl, "verl"},
                                 {RowShape::kTrl, "trl"},
                                 {RowShape::kOpenRlhf, "openrlhf"},
                                 {RowShape::kVerifiers, "verifiers"}};
constexpr const char* kTramontaneKeys[] = {"id",     "prompt",   "messages",
                                           "answer", "verifier", "params"};

bool IsTramontaneKey(const std::string& key) {
  return std::any_of(std::begin(kTramontaneKeys), std::end(kTramontaneKeys),
                     [&](const char* known) { return key == known; });
}

std::string Join(const Keys& keys) {
  std::string out;
  for (const std::string& key : keys) out += (out.empty() ? "" : " or ") + key;
  return out;
}

// The first of `keys` that the row has; an empty string when it has none.
std::string FirstOf(const ordered_json& row, const Keys& keys) {
  for (const std::string& key : keys) {
    if (row.contains(key)) return key;
  }
  return "";
}

absl::Status ReadAnswer(const ordered_json& row, const Keys& keys, RawRow* out) {
  const std::string key = FirstOf(row, keys);
  if (key.empty()) return absl::InvalidArgumentError(Join(keys) + ": missing");
  ASSIGN_OR_RETURN(out->answer, RequiredText(row, key));
  return absl::OkStatus();
}

// An identifier may be text or a number.
absl::Status ReadId(const ordered_json& row, RawRow* out) {
  const auto found = row.find("id");
  if (found == row.end()) return absl::OkStatus();
  if (found->is_number_integer()) {
    out->id = found->dump();
  } else {
    ASSIGN_OR_RETURN(out->id, RequiredText(row, "id"));
  }
  return absl::OkStatus();
}

// Columns that nothing else reads go to the verifier.
void KeepOthers(const ordered_json& row, const Keys& read, RawRow* out) {
  for (const auto& [key, value] : row.items()) {
    if (std::find(read.begin(), read.end(), key) == read.end()) out->params[key] = Json(value);
  }
}

absl::StatusOr<RawRow> ReadTramontane(const ordered_json& row) {
  for (const auto& [key, value] : row.items()) {
    if (!IsTramontaneKey(key)) {
      return absl::InvalidArgumentError(key + ": unknown key in a row of shape tramontane");
    }
  }
  RawRow out;
  RETURN_IF_ERROR(ReadId(row, &out));
  RETURN_IF_ERROR(ReadPrompt(row, {"prompt"}, &out));
  RETURN_IF_ERROR(ReadAnswer(row, {"answer"}, &out));
  if (row.contains("verifier")) {
    ASSIGN_OR_RETURN(out.verifier, RequiredText(row, "verifier"));
  }
  if (const auto params = row.find("params"); params != row.end()) {
    if (!params->is_object()) return absl::InvalidArgumentError("params: expected an object");
    out.params = Json(*params);
  }
  return out;
}

absl::StatusOr<RawRow> ReadVerl(const ordered_json& row) {
  RawRow out;
  RETURN_IF_ERROR(ReadPrompt(row, {"prompt"}, &out));
  const auto model = row.find("reward_model");
  if (model == row.end()) return absl::InvalidArgumentError("reward_model: missing");
  if (!model->is_object()) return absl::InvalidArgumentError("reward_model: expected an object");
  const absl::StatusOr<std::string> truth = RequiredText(*model, "ground_truth");
  if (!truth.ok()) {
    return absl::InvalidArgumentError("reward_model." + std::string(truth.status().message()));
  }
  out.answer = *truth;
  KeepOthers(row, {"prompt", "reward_model"}, &out);
  return out;
}

// TRL, OpenRLHF and verifiers differ in the names of two columns only.
absl::StatusOr<RawRow> ReadColumns(const ordered_json& row, const Keys& prompts,
                                   const Keys& answers) {
  RawRow out;
  RETURN_IF_ERROR(ReadId(row, &out));
  RETURN_IF_ERROR(ReadPrompt(row, prompts, &out));
  RETURN_IF_ERROR(ReadAnswer(row, answers, &out));
  KeepOthers(row, {"id", "messages", FirstOf(row, prompts), FirstOf(row, answers)}, &out);
  return out;
}

absl::Status CheckMessages(const ordered_json& messages, const std::string& key) {
  if (messages.empty()) return absl::InvalidArgumentError(key + ": empty");
  for (size_t i = 0; i < messages.size(); ++i) {
    const ordered_json& message = messages[i];
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
      return absl::InvalidArgumentError(key + "[" + std::to_string(i) +
                                        "].role: expected a message with a role");
    }
  }
  return absl::OkStatus();
}

}  // namespace

const char* ToString(RowShape shape) {
  for (const ShapeName& entry : kShapes) {
    if (entry.shape == shape) return entry.name;
  }
  return "unknown";
}

absl::StatusOr<RowShape> ChooseShape(const std::string& configured, const ordered_json& row) {
  for (const ShapeName& entry : kShapes) {
    if (configured == entry.name) return entry.shape;
  }
  if (configured != "auto") {
    return absl::InvalidArgumentError("data.shape: unknown shape '" + configured + "'");
  }
  if (row.contains("reward_model")) return RowShape::kVerl;
  if (row.contains("question") || row.contains("info")) return RowShape::kVerifiers;
  if (row.contains("input") || row.contains("label")) return RowShape::kOpenRlhf;
  if (row.contains("solution") || row.contains("ground_truth")) return RowShape::kTrl;
  if (!row.contains("prompt") && !row.contains("messages")) {
    return absl::InvalidArgumentError(
        "prompt: missing, and no shape of row is known without one (data.shape: auto)");
  }
  const bool only_ours = std::all_of(row.items().begin(), row.items().end(),
                                     [](const auto& item) { return IsTramontaneKey(item.key()); });
  return only_ours ? RowShape::kTramontane : RowShape::kTrl;
}

absl::StatusOr<RawRow> ReadRow(RowShape shape, const ordered_json& row) {
  switch (shape) {
    case RowShape::kTramontane:
      return ReadTramontane(row);
    case RowShape::kVerl:
      return ReadVerl(row);
    case RowShape::kTrl:
      return ReadColumns(row, {"prompt"}, {"answer", "solution", "ground_truth"});
    case RowShape::kOpenRlhf:
      return ReadColumns(row, {"input", "prompt"}, {"label", "answer"});
    case RowShape::kVerifiers:
      return ReadColumns(row, {"question", "prompt"}, {"answer"});
  }
  return absl::InternalError("unknown row shape");
}

absl::Status ReadPrompt(const ordered_json& row, const Keys& keys, RawRow* out) {
  std::string key = FirstOf(row, keys);
  if (row.contains("messages")) {
    if (!key.empty()) return absl::InvalidArgumentError("messages: given beside " + key);
    key = "messages";
  }
  if (key.empty()) return absl::InvalidArgumentError(Join(keys) + ": missing");
  const ordered_json& value = row[key];
  if (value.is_array()) {
    out->messages = value;
    return CheckMessages(value, key);
  }
  if (key == "messages") return absl::InvalidArgumentError("messages: expected a list");
  ASSIGN_OR_RETURN(out->text, RequiredText(row, key));
  return absl::OkStatus();
}

absl::StatusOr<std::string> RequiredText(const ordered_json& row, const std::string& key) {
  const auto found = row.find(key);
  if (found == row.end()) return absl::InvalidArgumentError(key + ": missing");
  if (!found->is_string()) {
    return absl::InvalidArgumentError(key + ": expected text, got " + found->type_name());
  }
  std::string text = found->get<std::string>();
  if (text.empty()) return absl::InvalidArgumentError(key + ": empty");
  return text;
}

}  // namespace tramontane
