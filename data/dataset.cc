#include "data/dataset.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <unordered_map>
#include <utility>

#include "common/status.h"
#include "data/json_lines.h"
#include "data/row_shapes.h"

namespace tramontane {
namespace {

using nlohmann::ordered_json;

struct PromptText {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<PromptMessage> messages;  // empty: a plain text
};

// The texts of a message: one, or those among its parts ([{"type": "text", "text"}, …]).
std::string TextsOf(const ordered_json& content) {
  if (content.is_string()) return content.get<std::string>();
  std::string texts;
  if (!content.is_array()) return texts;
  for (const ordered_json& part : content) {
    if (const auto text = part.is_object() ? part.find("text") : part.end();
        text != part.end() && text->is_string()) {
      texts += text->get<std::string>();
    }
  }
  return texts;
}

std::vector<PromptMessage> MessagesOf(const ordered_json& messages) {
  std::vector<PromptMessage> out;
  for (const ordered_json& message : messages) {
    const auto content = message.find("content");
    out.push_back(
        {message.at("role").get<std::string>(), content == message.end() ? "" : TextsOf(*content)});
  }
  return out;
}

// Turns what a row says into what the model sees.
class PromptMaker {
 public:
  PromptMaker(const Tokenizer& tokenizer, const ChatTemplate* chat_template, bool wrap_text)
      : tokenizer_(tokenizer), chat_template_(chat_template), wrap_text_(wrap_text) {}

  absl::StatusOr<PromptText> Make(RawRow row) const {
    PromptText prompt;
    if (row.messages.is_null() && wrap_text_) {
      row.messages = ordered_json::array({{{"role", "user"}, {"content", row.text}}});
    }
    const bool templated = !row.messages.is_null();
    if (templated) {
      if (chat_template_ == nullptr) {
        return absl::InvalidArgumentError("messages: the model has no chat template");
      }
      prompt.messages = MessagesOf(row.messages);
      ASSIGN_OR_RETURN(prompt.text, chat_template_->Render({{"messages", std::move(row.messages)},
                                                            {"add_generation_prompt", true}}));
    } else {
      prompt.text = std::move(row.text);
    }
    // A template writes the special tokens itself; plain text gets those of the tokenizer.
    ASSIGN_OR_RETURN(prompt.tokens, tokenizer_.Encode(prompt.text, !templated));
    if (prompt.tokens.empty()) return absl::InvalidArgumentError("prompt: gives no tokens");
    return prompt;
  }

 private:
  const Tokenizer& tokenizer_;
  const ChatTemplate* chat_template_;
  const bool wrap_text_;
};

// Row ids are unique; remembers where each was first seen.
class IdRegister {
 public:
  absl::Status Add(const std::string& id, size_t line) {
    const auto [found, inserted] = lines_.try_emplace(id, line);
    if (inserted) return absl::OkStatus();
    return absl::InvalidArgumentError("id: '" + id + "' was given in line " +
                                      std::to_string(found->second) + " already");
  }

 private:
  std::unordered_map<std::string, size_t> lines_;
};

// Each row with everything but its prompt, which lies in `raw`.
using TakeRow = std::function<absl::Status(PromptRow row, RawRow raw)>;

absl::Status ForEachRow(const std::string& path, const DataSection& data, const TakeRow& take) {
  const std::string file_name = std::filesystem::path(path).filename().string();
  std::optional<RowShape> shape;
  IdRegister ids;
  bool any = false;
  const auto read = [&](size_t line, const ordered_json& json) -> absl::Status {
    if (!shape.has_value()) {
      ASSIGN_OR_RETURN(shape, ChooseShape(data.shape, json));
    }
    ASSIGN_OR_RETURN(RawRow raw, ReadRow(*shape, json));
    any = true;
    PromptRow row;
    row.row_id = raw.id.empty() ? file_name + ":" + std::to_string(line) : raw.id;
    RETURN_IF_ERROR(ids.Add(row.row_id, line));
    row.answer = std::move(raw.answer);
    row.verifier = raw.verifier.empty() ? data.verifier : std::move(raw.verifier);
    row.params = std::move(raw.params);
    return take(std::move(row), std::move(raw));
  };
  RETURN_IF_ERROR(ForEachJsonLine(path, JsonLinesLimits(), read));
  return any ? absl::OkStatus() : absl::InvalidArgumentError(path + ": no rows");
}

// Rows of a prompt and texts that answer it.
class CompletionReader {
 public:
  CompletionReader(const std::string& path, const Tokenizer& tokenizer,
                   const ChatTemplate* chat_template, int32_t eos_token_id)
      : path_(path),
        tokenizer_(tokenizer),
        maker_(tokenizer, chat_template, /*wrap_text=*/false),
        eos_token_id_(eos_token_id) {}

  using Take = std::function<void(std::vector<int32_t>, std::vector<std::vector<int32_t>>)>;

  // Calls `take` with the ids of each row's prompt and of its `fields`. InvalidArgument names file,
  // line and field; a file without rows is one.
  absl::Status ForEach(const std::vector<std::string>& fields, const Take& take) const {
    if (eos_token_id_ < 0) {
      return absl::InvalidArgumentError(path_ + ": the model names no end token (eos_token_id)");
    }
    bool any = false;
    const auto read = [&](size_t, const ordered_json& row) -> absl::Status {
      any = true;
      const auto named = row.find("tokenizer");
      const bool by_ids = named != row.end() && *named == tokenizer_.sha256();
      std::vector<int32_t> prompt;
      if (by_ids && row.contains("prompt_tokens")) {
        ASSIGN_OR_RETURN(prompt, Ids(row, "prompt_tokens"));
      } else {
        RawRow raw;
        RETURN_IF_ERROR(ReadPrompt(row, {"prompt"}, &raw));
        ASSIGN_OR_RETURN(PromptText text, maker_.Make(std::move(raw)));
        prompt = std::move(text.tokens);
      }
      std::vector<std::vector<int32_t>> texts;
      for (const std::string& field : fields) {
        ASSIGN_OR_RETURN(std::vector<int32_t> tokens, Completion(row, field, by_ids));
        texts.push_back(std::move(tokens));
      }
      take(std::move(prompt), std::move(texts));
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(ForEachJsonLine(path_, JsonLinesLimits(), read));
    return any ? absl::OkStatus() : absl::InvalidArgumentError(path_ + ": no rows");
  }

 private:
  static absl::StatusOr<std::vector<int32_t>> Ids(const ordered_json& row,
                                                  const std::string& field) {
    const ordered_json& ids = row.at(field);
    const auto is_id = [](const ordered_json& id) {
      return id.is_number_unsigned() && id.get<uint64_t>() <= INT32_MAX;
    };
    if (!ids.is_array() || ids.empty() || !std::all_of(ids.begin(), ids.end(), is_id))
      return absl::InvalidArgumentError(field + ": expected a list of token ids");
    return ids.get<std::vector<int32_t>>();
  }

  absl::StatusOr<std::vector<int32_t>> Completion(const ordered_json& row, const std::string& field,
                                                  bool by_ids) const {
    std::vector<int32_t> tokens;
    ASSIGN_OR_RETURN(const std::string text, RequiredText(row, field));
    if (by_ids && row.contains(field + "_tokens")) {
      ASSIGN_OR_RETURN(tokens, Ids(row, field + "_tokens"));
    } else {
      ASSIGN_OR_RETURN(tokens, tokenizer_.Encode(text, false));
    }
    if (tokens.empty()) return absl::InvalidArgumentError(field + ": gives no tokens");
    if (tokens.back() != eos_token_id_) tokens.push_back(eos_token_id_);
    return tokens;
  }

  const std::string path_;
  const Tokenizer& tokenizer_;
  const PromptMaker maker_;
  const int32_t eos_token_id_;
};

}  // namespace

absl::StatusOr<std::vector<PromptRow>> LoadPrompts(const std::string& path, const DataSection& data,
                                                   const Tokenizer& tokenizer,
                                                   const ChatTemplate* chat_template,
                                                   const RowCheck& check) {
  const PromptMaker maker(tokenizer, chat_template, data.apply_chat_template);
  std::vector<PromptRow> rows;
  const auto add = [&](PromptRow row, RawRow raw) -> absl::Status {
    ASSIGN_OR_RETURN(PromptText prompt, maker.Make(std::move(raw)));
    row.prompt = std::move(prompt.text);
    row.prompt_tokens = std::move(prompt.tokens);
    row.messages = std::move(prompt.messages);
    if (check) RETURN_IF_ERROR(check(row));
    rows.push_back(std::move(row));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachRow(path, data, add));
  return rows;
}

absl::Status CheckRows(const std::string& path, const DataSection& data, const RowCheck& check) {
  return ForEachRow(path, data, [&](PromptRow row, RawRow) { return check(row); });
}

absl::Status CheckVerifierOf(const PromptRow& row, const RunConfig& config) {
  const absl::Status found = FindVerifier(config.verifiers, row.verifier).status();
  return found.ok() ? found : absl::InvalidArgumentError(found.message());
}

absl::StatusOr<std::vector<SftExample>> LoadSftExamples(const std::string& path,
                                                        const Tokenizer& tokenizer,
                                                        const ChatTemplate* chat_template,
                                                        int32_t eos_token_id) {
  const CompletionReader reader(path, tokenizer, chat_template, eos_token_id);
  std::vector<SftExample> examples;
  RETURN_IF_ERROR(reader.ForEach({"completion"}, [&](std::vector<int32_t> prompt,
                                                     std::vector<std::vector<int32_t>> texts) {
    examples.push_back({std::move(prompt), std::move(texts[0])});
  }));
  return examples;
}

absl::StatusOr<std::vector<PreferencePair>> LoadPreferencePairs(const std::string& path,
                                                                const Tokenizer& tokenizer,
                                                                const ChatTemplate* chat_template,
                                                                int32_t eos_token_id) {
  const CompletionReader reader(path, tokenizer, chat_template, eos_token_id);
  std::vector<PreferencePair> pairs;
  RETURN_IF_ERROR(
      reader.ForEach({"chosen", "rejected"}, [&](std::vector<int32_t> prompt,
                                                 std::vector<std::vector<int32_t>> texts) {
        pairs.push_back({std::move(prompt), std::move(texts[0]), std::move(texts[1])});
      }));
  return pairs;
}

}  // namespace tramontane
