// Philox 4x32-10, the counter-based generator of Salmon et al. (SC 2011): a pure function of
// counter and key, so that a draw depends on nothing but its coordinates.
#pragma once

#include <array>
#include <cstdint>

namespace tramontane {

using PhiloxBlock = std::array<uint32_t, 4>;

constexpr PhiloxBlock Philox4x32(PhiloxBlock counter, uint64_t seed) {
  uint32_t key_0 = static_cast<uint32_t>(seed), key_1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product_0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product_1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product_1 >> 32) ^ counter[1] ^ key_0,
               static_cast<uint32_t>(product_1),
               static_cast<uint32_t>(product_0 >> 32) ^ counter[3] ^ key_1,
               static_cast<uint32_t>(product_0)};
    key_0 += 0x9E3779B9;
    key_1 += 0xBB67AE85;
  }
  return counter;
}

// The draw for the `position`-th sampled token (from 0) of sample `sample_index`: uniform in
// [0, 1), 53 bits.
constexpr double UniformDraw(uint64_t seed, uint32_t sample_index, uint32_t position) {
  const PhiloxBlock random = Philox4x32({position, sample_index, 0, 0}, seed);
  const uint64_t bits = (uint64_t{random[0]} << 32) | random[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace tramontane
