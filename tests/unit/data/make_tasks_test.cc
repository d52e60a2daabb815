#include "data/make_tasks.h"

#include <gtest/gtest.h>

#include <set>

#include "common/files.h"
#include "data/dataset.h"
#include "data/json_lines.h"
#include "tests/support/source_file.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/text/golden.h"

namespace tramontane {
namespace {

MakeTasksOptions Small(const std::string& out_dir) {
  MakeTasksOptions options;
  options.out_dir = out_dir;
  options.train_rows = 200;
  options.eval_rows = 40;
  options.sft_rows = 100;
  return options;
}

std::vector<nlohmann::ordered_json> Rows(const std::string& path) {
  std::vector<nlohmann::ordered_json> rows;
  const absl::Status status = ForEachJsonLine(path, {}, [&](size_t, const auto& row) {
    rows.push_back(row);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

TEST(MakeTaskFilesTest, WritesDatasetsThatLoad) {
  const TempDir folder;
  const MakeTasksOptions options = Small(folder.path() + "/new/tasks");
  ASSERT_TRUE(MakeTaskFiles(options).ok());
  const std::string tokenizer_dir = SourceFile("examples/demo/tokenizer");
  const auto tokenizer = Tokenizer::Load(tokenizer_dir);
  ASSERT_TRUE(tokenizer.ok());
  const auto train = LoadPrompts(options.out_dir + "/train.jsonl", {}, **tokenizer, nullptr);
  const auto eval = LoadPrompts(options.out_dir + "/eval.jsonl", {}, **tokenizer, nullptr);
  const auto sft = LoadSftExamples(options.out_dir + "/sft.jsonl", **tokenizer, nullptr, 258);
  ASSERT_TRUE(train.ok() && eval.ok() && sft.ok())
      << train.status() << eval.status() << sft.status();
  EXPECT_EQ(train->size(), 200u);
  EXPECT_EQ(eval->size(), 40u);
  EXPECT_EQ(sft->size(), 100u);
  EXPECT_EQ((*train)[0].verifier, "math");
  EXPECT_TRUE((*train)[0].params.contains("kind"));
}

TEST(MakeTaskFilesTest, HeldOutPromptsOccurNowhereElse) {
  const TempDir folder;
  ASSERT_TRUE(MakeTaskFiles(Small(folder.path())).ok());
  std::set<std::string> held_out;
  for (const auto& row : Rows(folder.path() + "/eval.jsonl")) held_out.insert(row["prompt"]);
  EXPECT_EQ(held_out.size(), 40u);
  for (const char* name : {"/train.jsonl", "/sft.jsonl"}) {
    for (const auto& row : Rows(folder.path() + name)) {
      EXPECT_FALSE(held_out.contains(row["prompt"].get<std::string>())) << row;
    }
  }
}

TEST(MakeTaskFilesTest, TheSameOptionsGiveTheSameBytes) {
  const TempDir one, two;
  ASSERT_TRUE(MakeTaskFiles(Small(one.path())).ok());
  ASSERT_TRUE(MakeTaskFiles(Small(two.path())).ok());
  for (const char* name : {"/train.jsonl", "/eval.jsonl", "/sft.jsonl"}) {
    EXPECT_EQ(*ReadFile(one.path() + name), *ReadFile(two.path() + name)) << name;
  }
}

TEST(MakeTaskFilesTest, NothingIsWrittenWhenItCannotBe) {
  const TempDir folder;
  MakeTasksOptions options = Small(folder.path() + "/out");
  options.kinds = {"unknown"};
  EXPECT_FALSE(MakeTaskFiles(options).ok());
  EXPECT_FALSE(std::filesystem::exists(options.out_dir));
  options = Small("");
  EXPECT_FALSE(MakeTaskFiles(options).ok());
}

}  // namespace
}  // namespace tramontane
