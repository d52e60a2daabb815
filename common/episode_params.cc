#include "common/episode_params.h"

#include "common/status.h"

namespace tramontane {
namespace {

absl::Status BadEpisode(const std::string& field, const std::string& why) {
  return absl::InvalidArgumentError("params.episode" + (field.empty() ? "" : "." + field) + ": " +
                                    why);
}

absl::Status ReadCount(const std::string& key, const Json& value, int32_t least, int32_t& out) {
  if (!value.is_number_integer() || value < least || value > (1 << 30))
    return BadEpisode(key,
                      "must be an integer from " + std::to_string(least) + ", got " + value.dump());
  out = value.get<int32_t>();
  return absl::OkStatus();
}

absl::Status ReadText(const std::string& key, const Json& value, std::string& out) {
  if (!value.is_string()) return BadEpisode(key, "must be a text, got " + value.dump());
  out = value.get<std::string>();
  return absl::OkStatus();
}

}  // namespace

bool IsEnvironment(const VerifierSection& section) {
  return section.params.is_object() && section.params.contains("episode");
}

absl::StatusOr<EpisodeParams> EpisodeParamsOf(const VerifierSection& section) {
  const Json& episode = section.params.at("episode");
  if (!episode.is_object()) return BadEpisode("", "must be an object, got " + episode.dump());
  EpisodeParams params;
  for (const auto& [key, value] : episode.items()) {
    if (key == "max_turns") {
      RETURN_IF_ERROR(ReadCount(key, value, 1, params.max_turns));
    } else if (key == "max_turn_tokens") {
      RETURN_IF_ERROR(ReadCount(key, value, 0, params.max_turn_tokens));
    } else if (key == "max_observation_tokens") {
      RETURN_IF_ERROR(ReadCount(key, value, 1, params.max_observation_tokens));
    } else if (key == "before_observation") {
      RETURN_IF_ERROR(ReadText(key, value, params.before_observation));
    } else if (key == "after_observation") {
      RETURN_IF_ERROR(ReadText(key, value, params.after_observation));
    } else if (key == "judge") {
      RETURN_IF_ERROR(ReadText(key, value, params.judge));
    } else {
      return BadEpisode(key, "unknown key");
    }
  }
  return params;
}

absl::Status CheckEnvironments(const std::map<std::string, VerifierSection>& verifiers) {
  for (const auto& [name, section] : verifiers) {
    if (!IsEnvironment(section)) continue;
    const std::string where = "verifiers." + name;
    const absl::StatusOr<EpisodeParams> params = EpisodeParamsOf(section);
    if (!params.ok()) return Annotate(params.status(), where);
    if (!section.builtin.empty()) {
      return absl::InvalidArgumentError(
          where +
          ".builtin: no built-in grader takes turns; name an environment by command, address "
          "or use (rule environments_are_services)");
    }
    if (params->judge.empty()) continue;
    const auto judge = verifiers.find(params->judge);
    if (judge == verifiers.end() || IsEnvironment(judge->second)) {
      return absl::InvalidArgumentError(
          where + ".params.episode.judge: '" + params->judge +
          "' is no verifier of `verifiers` (rule judges_are_verifiers)");
    }
  }
  return absl::OkStatus();
}

}  // namespace tramontane
