// Jinja chat templates by the `minijinja` crate with Python-compatibility methods, rendered as
// transformers' apply_chat_template does. Thread-safe: all members are const.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

class ChatTemplate {
 public:
  // From <model_dir>/chat_template.jinja and additional_chat_templates/*.jinja, or else
  // tokenizer_config.json's chat_template (one, or a list of named ones). NotFound when the model
  // has none; InvalidArgument, naming the file, for one that does not parse.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Load(const std::string& model_dir);
  ~ChatTemplate();

  // `context`: {"messages": […], "tools": […]|null, "add_generation_prompt": bool, …}; every key
  // becomes a template variable beside bos_token, eos_token and the like. Order of keys counts
  // where a template prints an object, so hand over ordered_json where the order is known. With
  // "continue_final_message" (true, or the name of a field) the text ends where the last message's
  // does, for a model to go on with it; it excludes add_generation_prompt.
  // Errors (InvalidArgument): the template's own raise_exception, or work beyond the cap.
  absl::StatusOr<std::string> Render(const nlohmann::ordered_json& context) const;
  const std::string& sha256() const;  // of the templates' sources

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
