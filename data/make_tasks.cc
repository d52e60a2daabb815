#include "data/make_tasks.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

using nlohmann::ordered_json;

std::string PromptLines(const std::vector<TaskExample>& tasks, const std::string& split) {
  std::string lines;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const ordered_json row = {{"id", split + "-" + std::to_string(i)},
                              {"prompt", tasks[i].prompt},
                              {"answer", tasks[i].answer},
                              {"verifier", "math"},
                              // "12+34" is no answer to "12+34=", nor is any order a sorted one.
                              {"params", {{"kind", tasks[i].kind}, {"form", "literal"}}}};
    lines += row.dump() + "\n";
  }
  return lines;
}

std::string SftLines(const std::vector<TaskExample>& tasks) {
  std::string lines;
  for (const TaskExample& task : tasks) {
    lines += ordered_json{{"prompt", task.prompt}, {"completion", task.completion}}.dump() + "\n";
  }
  return lines;
}

}  // namespace

absl::Status MakeTaskFiles(const MakeTasksOptions& options) {
  if (options.out_dir.empty()) return absl::InvalidArgumentError("out: no folder given");
  // Each file has a seed of its own.
  const auto make = [&](size_t count, uint64_t split, const std::vector<std::string>& exclude) {
    return MakeTasks(options.kinds, count, options.seed * 3 + split, options.teacher, exclude);
  };
  ASSIGN_OR_RETURN(const std::vector<TaskExample> eval, make(options.eval_rows, 0, {}));
  std::vector<std::string> held_out;
  for (const TaskExample& task : eval) held_out.push_back(task.prompt);
  std::sort(held_out.begin(), held_out.end());
  ASSIGN_OR_RETURN(const std::vector<TaskExample> train, make(options.train_rows, 1, held_out));
  ASSIGN_OR_RETURN(const std::vector<TaskExample> sft, make(options.sft_rows, 2, held_out));

  RETURN_IF_ERROR(MakeDirs(options.out_dir));
  RETURN_IF_ERROR(WriteFileAtomic(options.out_dir + "/eval.jsonl", PromptLines(eval, "eval")));
  RETURN_IF_ERROR(WriteFileAtomic(options.out_dir + "/train.jsonl", PromptLines(train, "train")));
  return WriteFileAtomic(options.out_dir + "/sft.jsonl", SftLines(sft));
}

}  // namespace tramontane
