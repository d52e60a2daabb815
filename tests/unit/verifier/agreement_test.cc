// The table of answers that math-verify 0.9.0 has judged (tests/golden/verifier).
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "tests/support/source_file.h"
#include "verifier/math/answer.h"

namespace tramontane {
namespace {

using nlohmann::json;

std::vector<json> ReadRows(const std::string& name) {
  std::ifstream in(SourceFile("tests/golden/verifier/" + name));
  EXPECT_TRUE(in.good()) << name;
  std::vector<json> rows;
  for (std::string line; std::getline(in, line);) rows.push_back(json::parse(line));
  return rows;
}

TEST(AgreementTest, JudgesAsMathVerifyDoesButForTheListedPairs) {
  const std::vector<json> rows = ReadRows("agreement.jsonl");
  ASSERT_GE(rows.size(), 600u);
  std::map<std::pair<std::string, std::string>, std::string> listed;
  for (const json& row : ReadRows("differences.jsonl")) {
    listed[{row["gold"], row["answer"]}] = row["reason"];
  }
  size_t different = 0;
  for (const json& row : rows) {
    const std::string gold = row["gold"], answer = row["answer"];
    const bool same = math::SameMathAnswer(gold, answer);
    const bool differs = same != row["math_verify"].get<bool>();
    different += differs;
    EXPECT_EQ(differs, listed.contains({gold, answer}))
        << row["kind"] << ": gold " << gold << ", answer " << answer << ": here " << same
        << ", math-verify " << row["math_verify"];
  }
  EXPECT_EQ(different, listed.size());
  EXPECT_LE(different * 50, rows.size()) << "agreement is below 98%";
}

TEST(AgreementTest, VerdictsAreFast) {
  const std::vector<json> rows = ReadRows("agreement.jsonl");
  std::vector<double> plain, all;
  for (const json& row : rows) {
    const std::string gold = row["gold"], answer = row["answer"];
    const auto start = std::chrono::steady_clock::now();
    math::SameMathAnswer(gold, answer);
    all.push_back(SecondsSince(start));
    if (row["kind"] == "integers" || row["kind"] == "generated integers") {
      plain.push_back(all.back());
    }
  }
  std::sort(plain.begin(), plain.end());
  std::sort(all.begin(), all.end());
  RecordProperty("median_plain_us", std::to_string(plain[plain.size() / 2] * 1e6));
  RecordProperty("p99_ms", std::to_string(all[all.size() * 99 / 100] * 1e3));
  // Far above what is measured (docs/graders.md), for sanitised builds on a busy machine.
  EXPECT_LT(plain[plain.size() / 2], 1e-3);
  EXPECT_LT(all[all.size() * 99 / 100], 0.2);
}

}  // namespace
}  // namespace tramontane
