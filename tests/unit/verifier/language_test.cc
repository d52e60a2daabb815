#include "verifier/rules/language.h"

#include <fasttext/fasttext.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "verifier/grader.h"

namespace tramontane {
namespace {

std::shared_ptr<const LanguageDetector> ByScript() { return *LanguageDetector::Make(""); }

TEST(LanguageTest, ScriptsTellLanguagesApart) {
  const auto detector = ByScript();
  EXPECT_EQ(detector->Detect("The wind"), "latin");
  EXPECT_EQ(detector->Detect("Ветер"), "cyrillic");
  EXPECT_EQ(detector->Detect("这是中文的句子"), "han");
  EXPECT_EQ(detector->Detect("これは日本語の文です"), "kana");
  EXPECT_EQ(detector->Detect("한국어 문장"), "hangul");
  EXPECT_EQ(detector->Detect("جملة عربية"), "arabic");
  EXPECT_EQ(detector->Detect("1 + 2 = 3"), std::nullopt);
  EXPECT_EQ(detector->Detect(""), std::nullopt);
  EXPECT_EQ(detector->Detect("\xff\xfe\xc3"), std::nullopt);
  EXPECT_EQ(detector->NameOf("ru"), "cyrillic");
  EXPECT_EQ(detector->NameOf("en"), std::nullopt);
}

TEST(LanguageTest, FormulasAndCodeDoNotCount) {
  const auto detector = ByScript();
  EXPECT_EQ(detector->Detect("Ответ: $x_{max} = \\frac{velocity}{time}$ и \\boxed{answer}"), "cyrillic");
  EXPECT_EQ(detector->Detect("Да ```python\nprint('hello big world')\n```"), "cyrillic");
  EXPECT_EQ(detector->Detect("Цена $5"), "cyrillic");
  EXPECT_EQ(detector->Detect("x < 5, so the rest of the text counts"), "latin");
}

TEST(LanguageTest, ProportionIsAShareOfWords) {
  const auto detector = ByScript();
  EXPECT_EQ(detector->Proportion("один два три four", "cyrillic"), 0.75);
  EXPECT_EQ(detector->Proportion("12 34", "cyrillic"), 1);
  EXPECT_EQ(detector->Proportion("今天 is", "han"), 2.0 / 3);
}

// A model of our own making, in the format of lid.176.
class FastTextTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string data = testing::TempDir() + "/languages.txt";
    model_ = new std::string(testing::TempDir() + "/languages.bin");
    {
      std::ofstream out(data);
      for (int i = 0; i < 100; ++i) {
        out << "__label__en the wind is strong and the answer is two\n"
            << "__label__en we add one and one and get the sum\n"
            << "__label__fr le vent est fort et la réponse est deux\n"
            << "__label__fr nous ajoutons un et un pour avoir la somme\n";
      }
    }
    fasttext::Args args;
    args.input = data;
    args.model = fasttext::model_name::sup;
    args.loss = fasttext::loss_name::softmax;
    args.dim = 8;
    args.epoch = 20;
    args.lr = 0.5;
    args.minCount = 1;
    args.minn = 2;
    args.maxn = 3;
    args.bucket = 2000;
    args.thread = 1;
    args.verbose = 0;
    fasttext::FastText trained;
    trained.train(args);
    trained.saveModel(*model_);
  }
  static void TearDownTestSuite() {
    std::remove(model_->c_str());
    delete model_;
  }
  static std::string* model_;
};
std::string* FastTextTest::model_ = nullptr;

TEST_F(FastTextTest, AModelTellsLanguagesOfOneScript) {
  const auto detector = LanguageDetector::Make(*model_);
  ASSERT_TRUE(detector.ok()) << detector.status();
  EXPECT_EQ((*detector)->Detect("the answer is the sum\nand the wind is strong"), "en");
  EXPECT_EQ((*detector)->Detect("la réponse est la somme"), "fr");
  EXPECT_EQ((*detector)->Detect("$x^2$ 12"), std::nullopt);
  EXPECT_EQ((*detector)->NameOf("fr"), "fr");
  EXPECT_EQ((*detector)->Proportion("the answer is two\nla réponse est deux", "fr"), 0.5);
}

TEST_F(FastTextTest, MagistralsBonusAsksForOneLanguageThroughout) {
  RewardSection reward;
  reward.language = 0.1;
  reward.language_model = *model_;
  const auto grader = MakeBuiltinGrader("math", reward);
  ASSERT_TRUE(grader.ok()) << grader.status();
  GradeRequest request;
  request.prompt = "le vent est fort, nous ajoutons un et un";
  request.answer = "2";
  request.completion = "<think>nous ajoutons un et un</think>la réponse est \\boxed{2}";
  EXPECT_NEAR(*(*grader)->Grade(request).score, 1.1, 1e-12);
  request.completion = "<think>we add one and one and get the sum</think>la réponse est \\boxed{2}";
  const Verdict mixed = (*grader)->Grade(request);
  EXPECT_NEAR(*mixed.score, 1.0, 1e-12);
  EXPECT_EQ(mixed.components.at("language"), 0);
  EXPECT_NEAR((*grader)->max_score(), 1.1, 1e-12);
}

TEST(LanguageModelTest, AMissingOrBrokenModelIsNamed) {
  EXPECT_EQ(LanguageDetector::Make("/no/such/model.bin").status().code(), absl::StatusCode::kNotFound);
  const std::string path = testing::TempDir() + "/broken.bin";
  std::ofstream(path) << "not a model";
  EXPECT_EQ(LanguageDetector::Make(path).status().code(), absl::StatusCode::kInvalidArgument);
  RewardSection reward;
  reward.language_model = path;
  const auto grader = MakeBuiltinGrader("math", reward);
  EXPECT_NE(std::string(grader.status().message()).find("reward.language_model"), std::string::npos);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace tramontane
