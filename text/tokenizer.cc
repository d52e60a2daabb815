#include "text/tokenizer.h"

#include <cstring>
#include <utility>

#include "common/files.h"
#include "common/hash.h"
#include "common/status.h"
#include "text/model_files.h"
#include "text/rust_text.h"
#include "text/tokenizer_impl.h"

namespace tramontane {
namespace {

constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const std::string& model_dir) {
  std::string path = model_dir + "/tokenizer.json";
  ASSIGN_OR_RETURN(std::string file, ReadOptionalFile(path, kMaxTokenizerBytes));
  const bool is_tekken = file.empty();
  if (is_tekken) {
    const std::string tekken_path = model_dir + "/tekken.json";
    ASSIGN_OR_RETURN(file, ReadOptionalFile(tekken_path, kMaxTokenizerBytes));
    if (file.empty()) {
      return absl::NotFoundError(path + ": no such file, and no tekken.json beside it");
    }
    path = tekken_path;
  }
  ASSIGN_OR_RETURN(const TokenizerSettings settings, ReadTokenizerSettings(model_dir));
  const rust_text::tt_tokenizer_files files = settings.Borrow(file, is_tekken);

  auto impl = std::make_unique<Impl>();
  rust_text::Bytes error;
  impl->rust.reset(rust_text::tt_tokenizer_new(&files, error.out()));
  if (impl->rust == nullptr) return rust_text::Invalid(path, error);
  rust_text::Bytes table;
  if (rust_text::tt_tokenizer_pieces(impl->rust.get(), table.out(), error.out()) != 0) {
    return rust_text::Invalid(path, error);
  }
  ASSIGN_OR_RETURN(impl->pieces, PieceTable::Parse(table.view()));
  impl->sha256 = Sha256Hex(file);
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(const std::string& text,
                                                       bool add_special_tokens) const {
  rust_text::Bytes out, error;
  if (rust_text::tt_tokenizer_encode(impl_->rust.get(), rust_text::Slice(text), add_special_tokens,
                                     out.out(), error.out()) != 0) {
    return rust_text::Invalid("tokenize", error);
  }
  std::vector<int32_t> ids(out.view().size() / sizeof(int32_t));
  if (!ids.empty()) std::memcpy(ids.data(), out.view().data(), out.view().size());
  return ids;
}

absl::StatusOr<std::string> Tokenizer::Decode(const std::vector<int32_t>& ids,
                                              bool skip_special_tokens) const {
  for (const int32_t id : ids) {
    if (id < 0)
      return absl::InvalidArgumentError("token id " + std::to_string(id) + " is negative");
  }
  rust_text::Bytes out, error;
  // int32_t and uint32_t may alias, and no id is negative.
  const auto* data = reinterpret_cast<const uint32_t*>(ids.data());
  if (rust_text::tt_tokenizer_decode(impl_->rust.get(), data, ids.size(), skip_special_tokens,
                                     out.out(), error.out()) != 0) {
    return rust_text::Invalid("detokenize", error);
  }
  return out.str();
}

int32_t Tokenizer::vocab_size() const {
  return static_cast<int32_t>(rust_text::tt_tokenizer_vocab_size(impl_->rust.get()));
}

const std::string& Tokenizer::sha256() const { return impl_->sha256; }

int32_t Tokenizer::TokenId(const std::string& token) const {
  return static_cast<int32_t>(
      rust_text::tt_tokenizer_token_id(impl_->rust.get(), rust_text::Slice(token)));
}

}  // namespace tramontane
