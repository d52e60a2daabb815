#include "common/hash.h"

#include <openssl/sha.h>

namespace tramontane {

std::string Sha256Hex(const void* data, size_t size_bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(static_cast<const unsigned char*>(data), size_bytes, digest);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * sizeof(digest));
  for (unsigned char byte : digest) {
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

std::string Sha256Hex(std::string_view bytes) { return Sha256Hex(bytes.data(), bytes.size()); }

std::string MakeGid(const std::string& run_id, std::string_view purpose, unsigned long long cursor) {
  return Sha256Hex(run_id + '\n' + std::string(purpose) + '\n' + std::to_string(cursor)).substr(0, 32);
}

}  // namespace tramontane
