// What a search's "scorer" may name beside verifiers. A verifier of such a name could be reached by
// no search, so configurations refuse it.
#pragma once

#include <string_view>

namespace tramontane {

inline constexpr std::string_view kPolicyScorer = "mean_logprob";  // the policy's own opinion
inline constexpr std::string_view kCriticScorer = "value";         // a critic's

// Why no verifier may be called so; empty: it may.
constexpr std::string_view WhyReserved(std::string_view verifier) {
  if (verifier != kPolicyScorer && verifier != kCriticScorer) return "";
  return "the names mean_logprob (the policy itself) and value (a critic) are reserved: as a "
         "search's scorer they name no verifier, so that none could ask this one; give it another "
         "name";
}

}  // namespace tramontane
