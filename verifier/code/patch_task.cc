#include "verifier/code/patch_task.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "common/rollout.h"
#include "common/status.h"
#include "verifier/sandbox/program.h"

namespace tramontane {
namespace {

absl::Status WrongTask(const std::string& field, const std::string& problem) {
  return absl::InvalidArgumentError("patch task: " + field + ": " + problem);
}

absl::StatusOr<FileTree> ReadTree(const Json& document, const char* key) {
  const auto field = document.find(key);
  if (field == document.end() || !field->is_object() || field->empty()) {
    return WrongTask(key, "must be an object of paths and contents, with one at least");
  }
  FileTree tree;
  for (const auto& [path, content] : field->items()) {
    if (!content.is_string()) return WrongTask(key, "'" + path + "' must be a string");
    tree[path] = content.get<std::string>();
  }
  const absl::Status checked = CheckFileTree(tree);
  if (!checked.ok()) return WrongTask(key, std::string(checked.message()));
  return tree;
}

absl::Status ReadRun(const Json& document, PatchTask& task) {
  const auto run = document.find("run");
  if (run == document.end() || !run->is_string() ||
      !task.test_files.contains(run->get<std::string>())) {
    return WrongTask("run", "must name one of test_files");
  }
  task.run = run->get<std::string>();
  if (task.test_files.at(task.run).size() > kMaxSourceBytes) {
    return WrongTask("run", "the file is longer than 256 KiB");
  }
  return absl::OkStatus();
}

absl::Status ReadGold(const Json& document, PatchTask& task) {
  const auto patch = document.find("patch");
  if (patch == document.end() || patch->is_null()) return absl::OkStatus();
  if (!patch->is_string()) return WrongTask("patch", "must be a unified diff");
  const auto ours = [](const absl::Status& status) {
    return WrongTask("patch", std::string(status.message()));
  };
  auto gold = ParseUnifiedDiff(patch->get<std::string>());
  if (!gold.ok()) return ours(gold.status());
  if (const absl::Status targets = CheckTargets(task, *gold); !targets.ok()) return ours(targets);
  if (const auto tree = PatchedTree(task, *gold); !tree.ok()) return ours(tree.status());
  task.gold = *std::move(gold);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PatchTask> ParsePatchTask(const std::string& answer) {
  const Json document = Json::parse(answer, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    return absl::InvalidArgumentError(
        "patch task: the answer of a patch row must be JSON: {\"files\", \"test_files\", \"run\", "
        "\"tests\", \"patch\"}");
  }
  PatchTask task;
  ASSIGN_OR_RETURN(task.files, ReadTree(document, "files"));
  ASSIGN_OR_RETURN(task.test_files, ReadTree(document, "test_files"));
  RETURN_IF_ERROR(ReadRun(document, task));
  ASSIGN_OR_RETURN(task.tests, ReadCodeTests(document));
  const auto untouched = PatchedTree(task, {});
  if (!untouched.ok()) return WrongTask("test_files", std::string(untouched.status().message()));
  RETURN_IF_ERROR(ReadGold(document, task));
  return task;
}

absl::Status CheckTargets(const PatchTask& task, const std::vector<FileDiff>& diffs) {
  for (const FileDiff& diff : diffs) {
    const absl::Status path = CheckTreePath(diff.path);
    if (!path.ok()) {
      return absl::PermissionDeniedError("leaves the repository: " + std::string(path.message()));
    }
    if (task.test_files.contains(diff.path)) {
      return absl::PermissionDeniedError("changes a test: " + diff.path);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<FileTree> PatchedTree(const PatchTask& task, const std::vector<FileDiff>& diffs) {
  ASSIGN_OR_RETURN(FileTree tree, ApplyDiff(task.files, diffs));
  for (const auto& [path, content] : task.test_files) tree[path] = content;
  const absl::Status checked = CheckFileTree(tree);
  if (!checked.ok()) return absl::FailedPreconditionError(checked.message());
  return tree;
}

}  // namespace tramontane
