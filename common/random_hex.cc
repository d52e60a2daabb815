#include "common/random_hex.h"

#include <random>

namespace tramontane {

std::string RandomHex(size_t digits) {
  std::random_device entropy;
  std::uniform_int_distribution<size_t> digit(0, 15);
  std::string text(digits, '0');
  for (char& c : text) c = "0123456789abcdef"[digit(entropy)];
  return text;
}

}  // namespace tramontane
