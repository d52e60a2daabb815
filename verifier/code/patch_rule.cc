#include "verifier/code/patch_rule.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/status.h"
#include "verifier/ascii.h"
#include "verifier/code/code_params.h"
#include "verifier/code/patch_similarity.h"
#include "verifier/code/patch_task.h"
#include "verifier/code/program_text.h"
#include "verifier/code/run_tests.h"
#include "verifier/rules/params.h"

namespace tramontane {
namespace {

constexpr size_t kMaxPatchBytes = 1 << 20;
constexpr double kSimilarityThreshold = 0.5;

struct PatchParams {
  CodeParams code;
  double similarity_threshold = kSimilarityThreshold;
};

absl::StatusOr<PatchParams> ParsePatchParams(const Json& params,
                                             const RunLimits& most = kAnyLimits) {
  PatchParams out;
  ASSIGN_OR_RETURN(out.code, ParseCodeParams(params, most));
  if (out.code.language == "cpp") {
    return absl::InvalidArgumentError("params.language: patches are of Python repositories");
  }
  ASSIGN_OR_RETURN(out.similarity_threshold,
                   NumberParam(params, "similarity_threshold", kSimilarityThreshold));
  if (!(out.similarity_threshold > 0 && out.similarity_threshold <= 1)) {
    return absl::InvalidArgumentError("params.similarity_threshold: must be above 0, at most 1");
  }
  return out;
}

Json PatchParamsSchema(const RunLimits& most) {
  Json schema = CodeParamsSchema(most);
  schema["properties"].erase("language");
  schema["properties"]["similarity_threshold"] = {{"type", "number"},
                                                  {"exclusiveMinimum", 0},
                                                  {"maximum", 1},
                                                  {"default", kSimilarityThreshold}};
  return schema;
}

// The first fenced block, or the answer from the first line on that can begin a diff.
std::optional<std::string_view> FindPatch(std::string_view answer) {
  if (const std::optional<FencedBlock> block = FirstFencedBlock(answer)) return block->body;
  for (size_t start = 0; start < answer.size();) {
    const std::string_view rest = answer.substr(start);
    if (rest.starts_with("diff --git ") || rest.starts_with("--- ")) return rest;
    start = std::min(answer.find('\n', start), answer.size()) + 1;
  }
  return std::nullopt;
}

Judgement NoPatch(const std::string& feedback) {
  Judgement judgement;
  judgement.feedback = feedback;
  return judgement;
}

absl::StatusOr<Judgement> RunPatched(ProgramRunner& runner, const PatchTask& task,
                                     const PatchParams& params, const std::vector<FileDiff>& diffs,
                                     const StopCheck& stop) {
  absl::StatusOr<FileTree> tree = PatchedTree(task, diffs);
  if (!tree.ok()) return NoPatch("the patch does not apply: " + std::string(tree.status().message()));
  const ProgramSpec program{.language = "python",
                            .source = task.test_files.at(task.run),
                            .function = task.tests.function,
                            .files = *std::move(tree)};
  absl::StatusOr<Judgement> judgement = RunTests(runner, task.tests, params.code, program, stop);
  if (!judgement.ok()) return OfSandbox(judgement.status());
  return judgement;
}

void CreditSimilarity(const PatchTask& task, const std::vector<FileDiff>& diffs, double threshold,
                      Judgement& judgement) {
  const double similarity = PatchSimilarity(diffs, task.gold);
  char text[48];
  std::snprintf(text, sizeof text, "; similarity to the gold patch %.3f", similarity);
  judgement.feedback += text;
  if (similarity >= threshold) judgement.share = std::max(judgement.share, threshold);
}

absl::StatusOr<Judgement> JudgePatch(ProgramRunner* runner, const std::string& text,
                                     const std::string& gold, const Json& params_json,
                                     const StopCheck& stop) {
  ASSIGN_OR_RETURN(const PatchTask task, ParsePatchTask(gold));
  ASSIGN_OR_RETURN(const PatchParams params, ParsePatchParams(params_json));
  if (!runner) return absl::UnavailableError("no sandbox runs programs here");
  const std::optional<std::string_view> found = FindPatch(text);
  if (!found) return NoPatch("no unified diff");
  if (found->size() > kMaxPatchBytes) return NoPatch("the patch is longer than 1 MiB");
  const auto diffs = ParseUnifiedDiff(*found);
  if (!diffs.ok()) return NoPatch("malformed patch: " + std::string(diffs.status().message()));
  const absl::Status targets = CheckTargets(task, *diffs);
  if (!targets.ok()) return NoPatch("refused patch: " + std::string(targets.message()));
  ASSIGN_OR_RETURN(Judgement judgement, RunPatched(*runner, task, params, *diffs, stop));
  if (!judgement.correct && !task.gold.empty()) {
    CreditSimilarity(task, *diffs, params.similarity_threshold, judgement);
  }
  for (const FileDiff& diff : *diffs) {
    judgement.extracted += (judgement.extracted.empty() ? "" : ", ") + diff.path;
  }
  return judgement;
}

}  // namespace

AnswerRule PatchRule(std::shared_ptr<ProgramRunner> runner, const RunLimits& most) {
  AnswerRule rule;
  rule.name = "patch";
  rule.version = "1.0.0";
  rule.pure = false;  // programs may draw at random, and meet their time limit or not
  rule.params_schema = PatchParamsSchema(most);
  rule.judge_long = [runner](const std::string& text, const std::string& gold, const Json& params,
                             const StopCheck& stop) {
    return JudgePatch(runner.get(), text, gold, params, stop);
  };
  rule.check_row = [most](const std::string& gold, const Json& params) {
    RETURN_IF_ERROR(ParsePatchTask(gold).status());
    return ParsePatchParams(params, most).status();
  };
  return rule;
}

}  // namespace tramontane
