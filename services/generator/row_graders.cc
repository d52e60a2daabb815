#include "services/generator/row_graders.h"

#include <utility>

#include "common/status.h"

namespace tramontane {
namespace {

GradeRequest RequestFor(const PromptRow& row, const Rollout& rollout, Json params) {
  params.update(row.params);
  return {.prompt = row.prompt,
          .completion = rollout.text,
          .completion_tokens = static_cast<int32_t>(rollout.tokens.size()),
          .finish_reason = rollout.finish_reason,
          .answer = row.answer,
          .params = std::move(params)};
}

}  // namespace

absl::StatusOr<RowGraders> MakeRowGraders(const RunConfig& config,
                                          const std::vector<PromptRow>& rows) {
  RowGraders graders;
  for (const PromptRow& row : rows) {
    if (graders.contains(row.verifier)) continue;
    const absl::StatusOr<std::string> key = FindVerifier(config.verifiers, row.verifier);
    const auto section = key.ok() ? config.verifiers.find(*key) : config.verifiers.end();
    const bool configured = section != config.verifiers.end();
    if (configured && section->second.builtin.empty()) {
      return absl::InvalidArgumentError(
          "row " + row.row_id + ": verifier '" + row.verifier +
          "' is a service of its own; tools know built-in graders only");
    }
    const std::string name = configured ? section->second.builtin : row.verifier;
    absl::StatusOr<std::unique_ptr<Grader>> grader = MakeBuiltinGrader(name, config.reward);
    if (!grader.ok()) return Annotate(grader.status(), "row " + row.row_id);
    graders[row.verifier] = {*std::move(grader),
                             configured ? section->second.params : Json::object()};
  }
  return graders;
}

GradeFunction GradeBy(const RowGraders& graders) {
  return [&graders](const PromptRow& row, const Rollout& rollout) -> absl::StatusOr<Verdict> {
    const RowGrader& one = graders.at(row.verifier);
    return one.grader->Grade(RequestFor(row, rollout, one.params));
  };
}

}  // namespace tramontane
