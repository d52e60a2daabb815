// Groups of two layers (GroupTask::answers): samples that answer the prompt, then samples that
// correct one answer each (MGRPO, arXiv 2506.04746). A correction's rollout begins with the answer
// and the phrase that asked for it, as injected tokens: it is context, and never learnt from. Pure.
#pragma once

#include <cstdint>

#include "common/rollout.h"

namespace tramontane {

bool IsCorrection(const GroupTask& task, int32_t sample_index);
// The sample that a correction corrects.
int32_t AnswerOf(const GroupTask& task, int32_t sample_index);

// Which part of the group a sample's reward is compared with, from 0 to PartsOf − 1: the answers,
// or the corrections of its answer, or all corrections (corrections_by_prompt).
int64_t PartOf(const GroupTask& task, int32_t sample_index);
int64_t PartsOf(const GroupTask& task);

// A correction without what it was given: what verifiers judge. What is stored for people to read
// may lack log-probabilities and versions.
Rollout CorrectionAlone(Rollout rollout);

}  // namespace tramontane
