// State of a Tokenizer, shared by tokenizer.cc, incremental_decoder.cc and grammar.cc only.
#pragma once

#include <string>

#include "text/pieces.h"
#include "text/rust_text.h"
#include "text/tokenizer.h"

namespace tramontane {

struct Tokenizer::Impl {
  rust_text::TokenizerPtr rust;
  PieceTable pieces;
  std::string sha256;
};

}  // namespace tramontane
