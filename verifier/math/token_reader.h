// A cursor over tokens, shared by the parts of the parser.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "verifier/math/lexer.h"

namespace tramontane::math {

class TokenReader {
 public:
  explicit TokenReader(const std::vector<Token>& tokens)
      : tokens_(tokens), end_(tokens.size()) {}

  bool AtEnd() const { return at_ >= end_; }
  // Nothing behind `end` is there. Returns the end before.
  size_t EndAt(size_t end) { return std::exchange(end_, end); }
  size_t at() const { return at_; }
  void Seek(size_t at) { at_ = at; }
  void Skip() { ++at_; }

  const Token* Peek(size_t ahead = 0) const {
    return at_ + ahead < end_ ? &tokens_[at_ + ahead] : nullptr;
  }
  bool IsSign(std::string_view sign, size_t ahead = 0) const {
    const Token* token = Peek(ahead);
    return token != nullptr && token->type == TokenType::kSign && token->text == sign;
  }
  bool IsCommand(std::string_view name) const {
    const Token* token = Peek();
    return token != nullptr && token->type == TokenType::kCommand && token->text == name;
  }
  bool TakeSign(std::string_view sign) {
    if (!IsSign(sign)) return false;
    ++at_;
    return true;
  }
  bool TakeCommand(std::string_view name) {
    if (!IsCommand(name)) return false;
    ++at_;
    return true;
  }

 private:
  const std::vector<Token>& tokens_;
  size_t at_ = 0, end_;
};

}  // namespace tramontane::math
