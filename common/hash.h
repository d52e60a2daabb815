// SHA-256 (OpenSSL) for content addresses, manifests and group ids.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tramontane {

std::string Sha256Hex(std::string_view bytes);  // 64 lower-case hex digits
std::string Sha256Hex(const void* data, size_t size_bytes);

// Group identity: the first 32 hex digits of SHA-256(run_id, purpose, cursor).
std::string MakeGid(const std::string& run_id, std::string_view purpose, unsigned long long cursor);

}  // namespace tramontane
