// Dataset rows as other projects write them, mapped to one record. Pure functions; errors are
// InvalidArgument and start with the name of the field.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

//   kTramontane  {id?, prompt | messages, answer, verifier?, params?}; no other keys
//   kVerl        {data_source, prompt: [message…], reward_model: {ground_truth}, extra_info?, …}
//   kTrl         {prompt: text | [message…], answer | solution | ground_truth, …}
//   kOpenRlhf    {input | prompt, label | answer, …}
//   kVerifiers   {question | prompt, answer, info?, task?, …}
// "…": any further columns; they reach the verifier in params.
enum class RowShape { kTramontane, kVerl, kTrl, kOpenRlhf, kVerifiers };

struct RawRow {
  std::string id;                   // empty: the row names none
  std::string text;                 // the prompt, when messages is null
  nlohmann::ordered_json messages;  // list of messages, or null
  std::string answer;
  std::string verifier;  // empty: the row names none
  Json params = Json::object();
};

const char* ToString(RowShape shape);

// data.shape's value; "auto" is decided by the keys of `first_row`.
absl::StatusOr<RowShape> ChooseShape(const std::string& configured,
                                     const nlohmann::ordered_json& first_row);

absl::StatusOr<RawRow> ReadRow(RowShape shape, const nlohmann::ordered_json& row);

// The prompt of a row: "messages" or text-or-messages under `key`. Used for SFT rows as well.
absl::Status ReadPrompt(const nlohmann::ordered_json& row, const std::vector<std::string>& keys,
                        RawRow* out);

// A text column that must be there and not be empty.
absl::StatusOr<std::string> RequiredText(const nlohmann::ordered_json& row, const std::string& key);

}  // namespace tramontane
