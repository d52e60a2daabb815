// Jinja chat templates by the `minijinja` crate with Python-compatibility methods.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

class ChatTemplate {
 public:
  // From <model_dir>/chat_template.jinja, or tokenizer_config.json's chat_template.
  // NotFound when the model has none.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Load(const std::string& model_dir);
  ~ChatTemplate();

  // `context`: {"messages": […], "tools": […]|null, "add_generation_prompt": bool, …}; every key
  // becomes a template variable beside bos_token, eos_token and the like.
  absl::StatusOr<std::string> Render(const nlohmann::json& context) const;
  const std::string& sha256() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
