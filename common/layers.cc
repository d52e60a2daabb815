#include "common/layers.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace tramontane {
namespace {

int32_t CorrectionsOfAnswer(const GroupTask& task) {
  return (task.samples - task.answers) / task.answers;
}

}  // namespace

bool IsCorrection(const GroupTask& task, int32_t sample_index) {
  return task.answers > 0 && sample_index >= task.answers;
}

int32_t AnswerOf(const GroupTask& task, int32_t sample_index) {
  return (sample_index - task.answers) / CorrectionsOfAnswer(task);
}

int64_t PartOf(const GroupTask& task, int32_t sample_index) {
  if (!IsCorrection(task, sample_index)) return 0;
  return task.corrections_by_prompt ? 1 : 1 + AnswerOf(task, sample_index);
}

int64_t PartsOf(const GroupTask& task) {
  if (task.answers == 0) return 1;
  return task.corrections_by_prompt ? 2 : 1 + task.answers;
}

Rollout CorrectionAlone(Rollout rollout) {
  if (rollout.injected.empty() || rollout.injected.front().begin != 0) return rollout;
  const int32_t given = rollout.injected.front().count;
  const auto cut = [given](auto& of_tokens) {
    const auto begin = of_tokens.begin();
    of_tokens.erase(begin, begin + std::clamp<std::ptrdiff_t>(given, 0, std::ssize(of_tokens)));
  };
  cut(rollout.tokens);
  cut(rollout.logprobs);
  rollout.injected.erase(rollout.injected.begin());
  for (TokenSpan& span : rollout.injected) span.begin -= given;
  for (int32_t left = given; left > 0 && !rollout.spans.empty();) {
    VersionSpan& span = rollout.spans.front();
    const int32_t taken = std::min(left, span.count);
    span.count -= taken;
    left -= taken;
    if (span.count == 0) rollout.spans.erase(rollout.spans.begin());
  }
  rollout.usage.injected = static_cast<int32_t>(CountTokens(rollout.injected));
  return rollout;
}

}  // namespace tramontane
