#include "text/grammar.h"

#include <utility>

#include "common/status.h"
#include "text/rust_text.h"
#include "text/tokenizer_impl.h"

namespace tramontane {

struct GrammarState::Impl {
  rust_text::GrammarStatePtr rust;
};

struct Grammar::Impl {
  rust_text::GrammarPtr rust;
};

struct GrammarCompiler::Impl {
  rust_text::GrammarsPtr rust;
};

GrammarState::GrammarState(std::unique_ptr<Impl> impl, int32_t end)
    : impl_(std::move(impl)), end_(end), words_(static_cast<size_t>(end) / 32 + 1) {}
GrammarState::GrammarState(GrammarState&&) noexcept = default;
GrammarState& GrammarState::operator=(GrammarState&&) noexcept = default;
GrammarState::~GrammarState() = default;

absl::Status GrammarState::Advance() {
  rust_text::Bytes error;
  if (rust_text::tt_grammar_allowed(impl_->rust.get(), words_.data(), words_.size(), error.out()) !=
      0) {
    return absl::InternalError("grammar: " + error.str());
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> GrammarState::Accept(int32_t token) {
  rust_text::Bytes error;
  const int32_t result = rust_text::tt_grammar_accept(
      impl_->rust.get(), static_cast<uint32_t>(token), error.out());
  if (result < 0) return absl::InternalError("grammar: " + error.str());
  return result == 1;
}

Grammar::Grammar(std::unique_ptr<Impl> impl, int32_t end) : impl_(std::move(impl)), end_(end) {}
Grammar::~Grammar() = default;

absl::StatusOr<GrammarState> Grammar::Start() const {
  auto state = std::make_unique<GrammarState::Impl>();
  rust_text::Bytes error;
  state->rust.reset(rust_text::tt_grammar_start(impl_->rust.get(), error.out()));
  if (state->rust == nullptr) return absl::InternalError("grammar: " + error.str());
  return GrammarState(std::move(state), end_);
}

GrammarCompiler::GrammarCompiler(std::shared_ptr<const Tokenizer> tokenizer, int32_t vocab_size)
    : tokenizer_(std::move(tokenizer)), vocab_size_(vocab_size) {}
GrammarCompiler::~GrammarCompiler() = default;

absl::StatusOr<std::shared_ptr<const Grammar>> GrammarCompiler::Compile(
    const GrammarSource& source) {
  rust_text::Bytes error;
  {
    std::lock_guard lock(mutex_);
    if (impl_ == nullptr) {
      auto impl = std::make_unique<Impl>();
      impl->rust.reset(rust_text::tt_grammars_new(
          tokenizer_->impl_->rust.get(), static_cast<uint32_t>(vocab_size_), error.out()));
      if (impl->rust == nullptr) return rust_text::Invalid("grammar", error);
      impl_ = std::move(impl);
    }
  }
  auto grammar = std::make_unique<Grammar::Impl>();
  grammar->rust.reset(rust_text::tt_grammar_new(impl_->rust.get(), source.is_regex,
                                                rust_text::Slice(source.text), error.out()));
  if (grammar->rust == nullptr) return rust_text::Invalid("grammar", error);
  const auto end = static_cast<int32_t>(rust_text::tt_grammars_end(impl_->rust.get()));
  return std::shared_ptr<const Grammar>(new Grammar(std::move(grammar), end));
}

}  // namespace tramontane
