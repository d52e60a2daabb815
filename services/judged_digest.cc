#include "services/judged_digest.h"

#include "common/hash.h"

namespace tramontane {

std::string JudgedDigest(const v1::VerifyRequest& request) {
  constexpr size_t kDigits = 16;
  std::string text;
  const auto add = [&text](const std::string& part) {
    text += std::to_string(part.size()) + ":" + part;
  };
  add(request.prompt());
  if (request.group_size() == 0) add(request.completion());
  for (const v1::GroupSample& sample : request.group()) add(sample.completion());
  add(request.answer());
  return Sha256Hex(text).substr(0, kDigits);
}

}  // namespace tramontane
