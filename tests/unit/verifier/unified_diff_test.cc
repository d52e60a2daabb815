// Reading unified diffs, applying them, and telling how alike two are.
#include "verifier/code/unified_diff.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "verifier/code/patch_similarity.h"

namespace tramontane {
namespace {

const FileTree kRepository = {{"a.py", "one\ntwo\nthree\nfour\nfive\n"},
                              {"sub/b.py", "x = 1"},
                              {"empty", ""}};

absl::StatusOr<FileTree> Applied(const std::string& patch) {
  const auto diffs = ParseUnifiedDiff(patch);
  if (!diffs.ok()) return diffs.status();
  return ApplyDiff(kRepository, *diffs);
}

TEST(UnifiedDiffTest, ChangesCreationsAndDeletionsApply) {
  const auto tree = Applied(
      "diff --git a/a.py b/a.py\nindex 1111111..2222222 100644\n--- a/a.py\n+++ b/a.py\n"
      "@@ -1,2 +1,3 @@\n one\n-two\n+2\n+two and a half\n@@ -4,2 +5,1 @@ def f():\n four\n-five\n"
      "diff --git a/sub/b.py b/sub/b.py\ndeleted file mode 100644\n--- a/sub/b.py\n+++ /dev/null\n"
      "@@ -1 +0,0 @@\n-x = 1\n\\ No newline at end of file\n"
      "diff --git a/n/c.py b/n/c.py\nnew file mode 100644\nindex 0000000..3333333\n--- /dev/null\n"
      "+++ b/n/c.py\n@@ -0,0 +1,2 @@\n+y = 2\n+z = 3\n\\ No newline at end of file\n"
      "diff --git a/n/__init__.py b/n/__init__.py\nnew file mode 100644\nindex 0000000..e69de29\n"
      "diff --git a/empty b/empty\ndeleted file mode 100644\nindex e69de29..0000000\n");
  ASSERT_TRUE(tree.ok()) << tree.status();
  EXPECT_EQ(*tree, (FileTree{{"a.py", "one\n2\ntwo and a half\nthree\nfour\n"},
                             {"n/__init__.py", ""},
                             {"n/c.py", "y = 2\nz = 3"}}));
}

TEST(UnifiedDiffTest, PlainNamesTimesAndBareEmptyContextLinesAreRead) {
  const auto diffs = ParseUnifiedDiff(
      "--- q.py\t2024-01-01 00:00:00\n+++ q.py\t2024-01-02\n@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n\n\n");
  ASSERT_TRUE(diffs.ok()) << diffs.status();
  ASSERT_EQ(diffs->size(), 1u);
  EXPECT_EQ((*diffs)[0].path, "q.py");
  const auto tree = ApplyDiff({{"q.py", "a\n\nb\n"}}, *diffs);
  ASSERT_TRUE(tree.ok()) << tree.status();
  EXPECT_EQ(tree->at("q.py"), "a\n\nc\n");
}

TEST(UnifiedDiffTest, WhatCannotBeReadIsNamedByItsLine) {
  const std::string head = "--- a/a.py\n+++ b/a.py\n";
  for (const auto& [patch, message] : std::vector<std::pair<std::string, std::string>>{
           {"", "names no file"},
           {"hello", "line 1: --- was expected"},
           {"--- a/a.py\n", "line 2: +++ was expected"},
           {head, "line 3: a hunk was expected"},
           {head + "@@ nonsense @@\n", "line 3: not the header"},
           {head + "@@ -1,99999999999999999999 +1 @@\n", "line 3: not the header"},
           {head + "@@ -1,2 +1,2 @@\n one\n", "line 5: the hunk is shorter"},
           {head + "@@ -1 +1 @@\n-one\n+1\n+2\n", "line 6: --- was expected"},
           {head + "@@ -1 +1 @@\n-one\nx\n", "line 5: does not fit"},
           {head + "@@ -1 +1 @@\n\\ No newline\n", "line 4: \\ without"},
           {head + "@@ -1 +1 @@\n-one\n+1\nSigned-off-by: me\n", "line 6: --- was expected"},
           {head + "@@ -1 +1 @@\n-one\n+1\n" + head + "@@ -2 +2 @@\n-two\n+2\n", "twice"},
           {"--- a/a.py\n+++ b/c.py\n@@ -1 +1 @@\n-one\n+1\n", "line 2: the names differ"},
           {"--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n-one\n+1\n", "both names"},
           {"--- \"a/\\303\"\n", "quoted"},
           {"diff --git a/a b/c\nrename from a\nrename to c\n", "line 2: renames"},
           {"diff --git a/a b/a\nBinary files a/a and b/a differ\n", "line 2: renames, copies"},
           {"diff --git a/a b/a\nindex 1..2\n", "line 3: --- was expected"},
           {"diff --git a/a b/b\nnew file mode 100644\n", "line 3: --- was expected"}}) {
    const absl::Status status = ParseUnifiedDiff(patch).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << patch << status;
    EXPECT_NE(std::string(status.message()).find(message), std::string::npos)
        << patch << "\n" << status;
  }
}

TEST(UnifiedDiffTest, WhatDoesNotFitExactlyIsRefused) {
  const std::string head = "--- a/a.py\n+++ b/a.py\n";
  for (const std::string& patch :
       {head + "@@ -2 +2 @@\n-one\n+1\n",                       // another line
        head + "@@ -1 +1 @@\n-One\n+1\n",                       // another text
        head + "@@ -1 +1 @@\n-one \n+1\n",                      // a blank more
        head + "@@ -0,1 +1 @@\n-one\n+1\n",                     // no such line
        head + "@@ -99 +99 @@\n-one\n+1\n",                     // behind the end
        head + "@@ -3 +3 @@\n-three\n+3\n@@ -1 +1 @@\n-one\n+1\n",  // backwards
        head + "@@ -5 +5 @@\n-five\n\\ No newline at end of file\n+5\n",
        head + "@@ -1 +1 @@\n-one\n+1\n\\ No newline at end of file\n",
        std::string("--- a/sub/b.py\n+++ b/sub/b.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"),
        std::string("--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-x\n+y\n"),
        std::string("--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+x\n"),
        std::string("--- a/a.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n")}) {
    const absl::Status status = Applied(patch).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << patch << status;
  }
  EXPECT_EQ(Applied(head + "@@ -3,0 +4 @@\n+three and a half\n")->at("a.py"),
            "one\ntwo\nthree\nthree and a half\nfour\nfive\n");
}

TEST(UnifiedDiffTest, NoMutationDoesMoreThanBeRefused) {
  const std::string patch =
      "diff --git a/a.py b/a.py\nindex 1..2 100644\n--- a/a.py\n+++ b/a.py\n"
      "@@ -1,2 +1,3 @@\n one\n-two\n+2\n+two and a half\n@@ -4,2 +5,1 @@ f\n four\n-five\n"
      "--- /dev/null\n+++ b/c\n@@ -0,0 +1 @@\n+z\n\\ No newline at end of file\n"
      "diff --git a/empty b/empty\ndeleted file mode 100644\n";
  const std::string bits[] = {"@@ -1 +1 @@\n", "\n", "\\\n", "--- ", "+++ ", "-", "+", " ", "a/", "0",
                              "9999999", "diff --git a/ b/\n", "new file mode 1\n", ",", "/dev/null"};
  std::mt19937 random(7);
  int applied = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string mutant = patch;
    for (size_t edits = 1 + random() % 4; edits > 0; --edits) {
      const size_t at = random() % (mutant.size() + 1);
      if (random() % 2 == 0) mutant.erase(at, random() % 12);
      mutant.insert(std::min(at, mutant.size()), bits[random() % std::size(bits)]);
    }
    applied += Applied(mutant).ok();
    PatchSimilarity(ParseUnifiedDiff(mutant).value_or(std::vector<FileDiff>{}),
                    *ParseUnifiedDiff(patch));
  }
  EXPECT_GT(applied, 0);
  EXPECT_LT(applied, 20000);
}

// Values of Python's difflib.SequenceMatcher(None, a, b, autojunk=False).ratio().
TEST(PatchSimilarityTest, RatiosAreDifflibs) {
  EXPECT_DOUBLE_EQ(SequenceRatio("", ""), 1);
  EXPECT_DOUBLE_EQ(SequenceRatio("", "x"), 0);
  EXPECT_DOUBLE_EQ(SequenceRatio("abcd", "bcde"), 0.75);
  EXPECT_DOUBLE_EQ(SequenceRatio("private Thread currentThread;",
                                 "private volatile Thread currentThread;"),
                   58.0 / 67);
  EXPECT_DOUBLE_EQ(SequenceRatio("qabxcd", "abycdf"), 8.0 / 12);
  EXPECT_DOUBLE_EQ(SequenceRatio("tide", "diet"), 0.25);
  EXPECT_DOUBLE_EQ(SequenceRatio("diet", "tide"), 0.5);
  EXPECT_DOUBLE_EQ(SequenceRatio("naïve", "naive"), 0.8) << "of characters, not of bytes";
}

TEST(PatchSimilarityTest, TheWorkIsBounded) {
  std::string a, b;
  for (int i = 0; i < 300000; ++i) {
    a += "ab"[i % 2];
    b += "ba"[i % 3 % 2];
  }
  const double ratio = SequenceRatio(a, b);
  EXPECT_GE(ratio, 0);
  EXPECT_LE(ratio, 1);
  EXPECT_EQ(ratio, SequenceRatio(a, b));
}

TEST(PatchSimilarityTest, TheMeanIsOverTheGoldPatchsFiles) {
  const auto parse = [](const std::string& text) { return *ParseUnifiedDiff(text); };
  const std::string a = "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+y\n";
  const std::string b = "--- a/b\n+++ b/b\n@@ -1 +1 @@\n-x\n+y\n";
  EXPECT_DOUBLE_EQ(PatchSimilarity(parse(a), parse(a)), 1);
  EXPECT_DOUBLE_EQ(PatchSimilarity(parse(a + b), parse(a)), 1) << "another file does not count";
  EXPECT_DOUBLE_EQ(PatchSimilarity(parse(a), parse(a + b)), 0.5) << "a missing one does";
  EXPECT_DOUBLE_EQ(PatchSimilarity(parse(b), parse(a)), 0);
  // One of 21 characters differs: "@@ -1,1 +1,1 @@\n-x\n+y".
  const std::string other = "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+z\n";
  EXPECT_DOUBLE_EQ(PatchSimilarity(parse(other), parse(a)), 20.0 / 21);
}

}  // namespace
}  // namespace tramontane
