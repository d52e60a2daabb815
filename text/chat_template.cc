#include "text/chat_template.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "common/hash.h"
#include "common/status.h"
#include "text/model_files.h"
#include "text/rust_text.h"

namespace tramontane {

using OrderedJson = nlohmann::ordered_json;

struct ChatTemplate::Impl {
  rust_text::TemplatePtr rust;
  std::string sha256;
};

namespace {

constexpr size_t kMaxTemplateBytes = size_t{4} << 20;
constexpr const char* kConfigName = "/tokenizer_config.json";

struct Sources {
  OrderedJson by_name = OrderedJson::object();
  std::string path;  // where they came from, for messages
};

// chat_template.jinja is the default; additional_chat_templates/NAME.jinja are the others.
absl::StatusOr<Sources> FromFiles(const std::string& model_dir) {
  namespace fs = std::filesystem;
  Sources sources;
  std::error_code error;
  const std::string main_path = model_dir + "/chat_template.jinja";
  if (fs::exists(main_path, error)) {
    ASSIGN_OR_RETURN(sources.by_name["default"], ReadOptionalFile(main_path, kMaxTemplateBytes));
    sources.path = main_path;
  }
  const std::string folder = model_dir + "/additional_chat_templates";
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".jinja") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    ASSIGN_OR_RETURN(sources.by_name[path.stem().string()],
                     ReadOptionalFile(path.string(), kMaxTemplateBytes));
    if (sources.path.empty()) sources.path = folder;
  }
  return sources;
}

absl::StatusOr<Sources> FromConfig(const std::string& model_dir, const std::string& config_text) {
  Sources sources;
  sources.path = model_dir + kConfigName;
  if (config_text.empty()) return sources;
  const OrderedJson config = OrderedJson::parse(config_text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return absl::InvalidArgumentError(sources.path + ": not a JSON object");
  }
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return sources;
  if (found->is_string()) {
    sources.by_name["default"] = *found;
    return sources;
  }
  const auto is_named = [](const OrderedJson& entry) {
    return entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
           entry.contains("template") && entry["template"].is_string();
  };
  if (!found->is_array() || !std::all_of(found->begin(), found->end(), is_named)) {
    return absl::InvalidArgumentError(
        sources.path + ": chat_template: expected text or a list of {\"name\", \"template\"}");
  }
  for (const OrderedJson& entry : *found) {
    sources.by_name[entry["name"].get<std::string>()] = entry["template"];
  }
  return sources;
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Load(
    const std::string& model_dir) {
  ASSIGN_OR_RETURN(const TokenizerSettings settings, ReadTokenizerSettings(model_dir));
  ASSIGN_OR_RETURN(Sources sources, FromFiles(model_dir));
  if (sources.by_name.empty()) {
    ASSIGN_OR_RETURN(sources, FromConfig(model_dir, settings.tokenizer_config));
  }
  if (sources.by_name.empty()) {
    return absl::NotFoundError(model_dir + ": the model has no chat template");
  }
  const std::string text =
      sources.by_name.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  const rust_text::tt_tokenizer_files files = settings.Borrow("", false);
  auto impl = std::make_unique<Impl>();
  rust_text::Bytes error;
  impl->rust.reset(rust_text::tt_template_new(rust_text::Slice(text), &files, error.out()));
  if (impl->rust == nullptr) return rust_text::Invalid(sources.path, error);
  impl->sha256 = Sha256Hex(text);
  return std::shared_ptr<const ChatTemplate>(new ChatTemplate(std::move(impl)));
}

absl::StatusOr<std::string> ChatTemplate::Render(const OrderedJson& context) const {
  if (!context.is_object()) {
    return absl::InvalidArgumentError("chat template: the context is not an object");
  }
  const std::string text = context.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  rust_text::Bytes out, error;
  if (rust_text::tt_template_render(impl_->rust.get(), rust_text::Slice(text), out.out(),
                                    error.out()) != 0) {
    return rust_text::Invalid("chat template", error);
  }
  return out.str();
}

const std::string& ChatTemplate::sha256() const { return impl_->sha256; }

}  // namespace tramontane
