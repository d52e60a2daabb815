// In which language a text is written. With a fastText model (lid.176, supplied by the user) by its
// words; without one by its script, which tells Russian from Japanese and cannot tell English from
// French. LaTeX and code are stripped first. Thread-safe; the model is read once.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tramontane {

class LanguageDetector {
 public:
  // An empty path: by script. NotFound or InvalidArgument when the model cannot be read.
  static absl::StatusOr<std::shared_ptr<const LanguageDetector>> Make(
      const std::string& model_path);
  ~LanguageDetector();

  // "en", "fr", … with a model; the name of a script ("latin", "han", "kana", …) without one.
  // Absent for a text without words.
  std::optional<std::string> Detect(std::string_view text) const;

  // Share of the words (of ideographic text: characters) that are in `language`, which is what
  // Detect() gives. 1 for a text without words.
  double Proportion(std::string_view text, const std::string& language) const;

  // What Detect() gives for texts of the language with this ISO code, if it can tell: with a model
  // the code itself, without one the script of a language that has its own ("ru" → "cyrillic").
  std::optional<std::string> NameOf(const std::string& code) const;

  const std::string& digest() const { return digest_; }  // SHA-256 of the model; empty without one
  bool has_model() const { return model_ != nullptr; }

 private:
  struct Model;
  LanguageDetector();
  std::unique_ptr<Model> model_;
  std::string digest_;
};

// Without formulas ($…$, \(…\), \[…\], \boxed{…}), commands, code blocks and tags.
std::string WithoutMathAndCode(std::string_view text);

}  // namespace tramontane
