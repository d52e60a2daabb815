#include "services/generator/http/completion_request.h"

#include <gtest/gtest.h>

#include "services/generator/http/api_error.h"
#include "services/generator/http/field_reader.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

const ServedModel& Model() {
  static const ServedModel model = [] {
    const std::string folder = SourceFile("examples/demo/tokenizer");
    ServedModel made;
    made.name = "demo";
    made.tokenizer = *Tokenizer::Load(folder);
    made.chat_template = *ChatTemplate::Load(folder);
    made.grammars = std::make_shared<GrammarCompiler>(made.tokenizer, 264);
    made.context_tokens = 64;
    made.vocab_size = 264;
    return made;
  }();
  return model;
}

struct Mistake {
  std::string body;
  int status;
  std::string param, code;  // empty: null
};

void ExpectRefused(const Mistake& mistake, const absl::StatusOr<CompletionRequest>& read) {
  ASSERT_FALSE(read.ok()) << mistake.body;
  const HttpReply reply = ErrorReply(read.status());
  const OrderedJson error = OrderedJson::parse(reply.body)["error"];
  EXPECT_EQ(reply.status, mistake.status) << mistake.body << " → " << reply.body;
  EXPECT_EQ(error["param"], mistake.param.empty() ? OrderedJson() : OrderedJson(mistake.param))
      << reply.body;
  EXPECT_EQ(error["code"], mistake.code.empty() ? OrderedJson() : OrderedJson(mistake.code))
      << reply.body;
  EXPECT_FALSE(error["message"].get<std::string>().empty());
}

std::string Deep(int levels) { return std::string(levels, '[') + std::string(levels, ']'); }

TEST(CompletionRequestTest, EveryMistakeNamesItsField) {
  const std::string p = R"({"prompt": "a", )";
  const Mistake mistakes[] = {
      {"", 400, "", ""},
      {"{\"prompt\": ", 400, "", ""},
      {"[1]", 400, "", ""},
      {"{\"prompt\": \"\xff\xfe\"}", 400, "", ""},
      {R"({"prompt": "\ud800"})", 400, "", ""},
      {"{\"prompt\": " + Deep(100000) + "}", 400, "", ""},
      {R"({})", 400, "prompt", ""},
      {R"({"prompt": []})", 400, "prompt", ""},
      {R"({"prompt": ""})", 400, "prompt", ""},
      {R"({"prompt": {"a": 1}})", 400, "prompt", ""},
      {R"({"prompt": [1, -2]})", 400, "prompt", ""},
      {R"({"prompt": [[1], "a", [1.5]]})", 400, "prompt", ""},
      {"{\"prompt\": \"" + std::string(63, 'a') + "\"}", 400, "max_tokens",
       "context_length_exceeded"},
      {"{\"prompt\": \"" + std::string(1000, 'a') + "\"}", 400, "prompt",
       "context_length_exceeded"},
      {"{\"prompt\": \"" + std::string(100000, 'a') + "\"}", 400, "prompt",
       "context_length_exceeded"},
      {p + R"("model": "gpt-9"})", 404, "model", "model_not_found"},
      {p + R"("model": 3})", 400, "model", ""},
      {p + R"("max_tokens": -1})", 400, "max_tokens", ""},
      {p + R"("max_tokens": 0})", 400, "max_tokens", ""},
      {p + R"("max_tokens": 1.5})", 400, "max_tokens", ""},
      {p + R"("max_tokens": 64})", 400, "max_tokens", "context_length_exceeded"},
      {p + R"("max_tokens": 18446744073709551615})", 400, "max_tokens", ""},
      {p + R"("temperature": -1})", 400, "temperature", ""},
      {p + R"("temperature": "hot"})", 400, "temperature", ""},
      {p + R"("top_p": 0})", 400, "top_p", ""},
      {p + R"("stop": 5})", 400, "stop", ""},
      {p + R"("stop": ["a", 5]})", 400, "stop", ""},
      {p + R"("n": 0})", 400, "n", ""},
      {R"({"prompt": ["a", "b"], "n": 4096})", 400, "n", ""},
      {p + R"("logprobs": 21})", 400, "logprobs", ""},
      {p + R"("logit_bias": {"a": 1}})", 400, "logit_bias", ""},
      {p + R"("logit_bias": {"264": 1}})", 400, "logit_bias", ""},
      {p + R"("logit_bias": {"5": 101}})", 400, "logit_bias", ""},
      {p + R"("stream_options": {"include_usage": true}})", 400, "stream_options", ""},
      {p + R"("stream": true, "stream_options": {"x": 1}})", 400, "stream_options", ""},
      {p + R"("timeout_s": 1e9})", 400, "timeout_s", ""},
      {p + R"("frequency_penalty": 0.5})", 400, "frequency_penalty", ""},
      {p + R"("best_of": 3})", 400, "best_of", ""},
      {p + R"("tempratur": 1})", 400, "tempratur", ""},
      {p + R"("thinking": {"budget": "much"}})", 400, "thinking.budget", ""},
      {p + R"("response_format": {"type": "xml"}})", 400, "response_format", ""},
      {p + R"("response_format": {"type": "json_schema"}})", 400, "response_format", ""},
      {p + R"("response_format": {"type": "json_schema", "json_schema": {"schema":
          {"type": "nonsense"}}}})",
       400, "response_format", "invalid_grammar"},
      {p + R"("guided_regex": "("})", 400, "guided_regex", "invalid_grammar"},
      {p + R"("guided_regex": "a", "guided_json": {}})", 400, "guided_regex", ""},
      {p + R"("structured_outputs": {"choice": []}})", 400, "structured_outputs", ""},
  };
  for (const Mistake& mistake : mistakes)
    ExpectRefused(mistake, ReadCompletion(mistake.body, Model()));
}

TEST(CompletionRequestTest, EveryMistakeInAChatNamesItsField) {
  const std::string m = R"({"messages": [{"role": "user", "content": "a"}], )";
  const Mistake mistakes[] = {
      {R"({})", 400, "messages", ""},
      {R"({"messages": []})", 400, "messages", ""},
      {R"({"messages": ["a"]})", 400, "messages[0]", ""},
      {R"({"messages": [{"content": "a"}]})", 400, "messages[0].role", ""},
      {R"({"messages": [{"role": "user", "content": 5}]})", 400, "messages[0].content", ""},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})", 422,
       "messages[0].content", "unprocessable"},
      {m + R"("tool_choice": "required"})", 422, "tool_choice", "unprocessable"},
      {m + R"("tools": {}})", 400, "tools", ""},
      {m + R"("top_logprobs": 3})", 400, "top_logprobs", ""},
      {m + R"("max_completion_tokens": 0})", 400, "max_completion_tokens", ""},
      {m + R"("chat_template_kwargs": {"messages": []}})", 400, "chat_template_kwargs", ""},
      {m + R"("echo": true})", 400, "echo", ""},
  };
  for (const Mistake& mistake : mistakes) ExpectRefused(mistake, ReadChat(mistake.body, Model()));
  ServedModel bare = Model();
  bare.chat_template = nullptr;
  ExpectRefused({m + R"("n": 1})", 422, "messages", "unprocessable"},
                ReadChat(m + R"("n": 1})", bare));
}

TEST(CompletionRequestTest, AllFourKindsOfPromptsAreRead) {
  const auto tokens = [](const std::string& prompt) {
    const auto request = ReadCompletion("{\"prompt\": " + prompt + "}", Model());
    EXPECT_TRUE(request.ok()) << request.status();
    std::vector<std::vector<int32_t>> all;
    for (const ApiPrompt& one : request->prompts) all.push_back(one.tokens);
    return all;
  };
  const std::vector<int32_t> ab = Model().tokenizer->Encode("ab", true).value();
  using All = std::vector<std::vector<int32_t>>;
  EXPECT_EQ(tokens(R"("ab")"), All{ab});
  EXPECT_EQ(tokens(R"(["ab", "ab"])"), (All{ab, ab}));
  EXPECT_EQ(tokens("[1, 2, 3]"), (All{{1, 2, 3}}));
  EXPECT_EQ(tokens("[[1, 2], [3]]"), (All{{1, 2}, {3}}));
}

TEST(CompletionRequestTest, FieldsReachTheSampler) {
  const auto request = ReadCompletion(
      R"({"model": "demo", "prompt": "a", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9,
          "top_k": 7, "min_p": 0.1, "seed": -3, "stop": ["x", "y"], "stop_token_ids": [9], "n": 2,
          "logprobs": 3, "logit_bias": {"5": -100}, "timeout_s": 2.5, "ignore_eos": true,
          "user": "me", "frequency_penalty": 0.0, "best_of": 2})",
      Model());
  ASSERT_TRUE(request.ok()) << request.status();
  const SamplingParams& sampling = request->sampling;
  EXPECT_EQ(sampling.max_new_tokens, 5);
  EXPECT_EQ(sampling.temperature, 0.5);
  EXPECT_EQ(sampling.top_p, 0.9);
  EXPECT_EQ(sampling.top_k, 7);
  EXPECT_EQ(sampling.min_p, 0.1);
  EXPECT_EQ(sampling.seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(sampling.stop, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(sampling.stop_token_ids, std::vector<int32_t>{9});
  EXPECT_TRUE(sampling.ignore_eos);
  EXPECT_EQ(request->n, 2);
  EXPECT_EQ(request->top_logprobs, 3);
  EXPECT_EQ(request->logit_bias.at(5), -100);
  EXPECT_EQ(request->timeout_s, 2.5);
}

TEST(CompletionRequestTest, UnsaidFieldsHaveTheApisDefaults) {
  const auto text = ReadCompletion(R"({"prompt": "a", "stop": null, "seed": null})", Model());
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->sampling.max_new_tokens, 16);
  EXPECT_EQ(text->sampling.temperature, 1);
  const auto chat = ReadChat(R"({"messages": [{"role": "user", "content": "a"}]})", Model());
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->sampling.max_new_tokens, Model().context_tokens);
  EXPECT_NE(text->sampling.seed, chat->sampling.seed);  // two requests are two samples
}

TEST(CompletionRequestTest, TagsThatTheUserWritesOpenNoThoughts) {
  ServedModel model = Model();
  model.context_tokens = 1000;
  const auto read = [&](const std::string& rest) {
    auto chat =
        ReadChat(R"({"messages": [{"role": "user", "content": "what is <think>?"})" + rest, model);
    EXPECT_TRUE(chat.ok()) << chat.status();
    return *std::move(chat);
  };
  const CompletionRequest asked = read(R"(], "guided_regex": "a"})");
  EXPECT_FALSE(asked.reasoning_open);
  EXPECT_EQ(asked.grammar_after_token, -1);  // the answer begins at once
  EXPECT_EQ(asked.answer_opening->find("<think>"), std::string::npos);
  const CompletionRequest continued =
      read(R"(, {"role": "assistant", "content": "<think>hm"}], "continue_final_message": true})");
  EXPECT_TRUE(continued.reasoning_open) << *continued.answer_opening;
}

TEST(CompletionRequestTest, MoreSamplesThanTheQueueHoldsAreRefused) {
  ServedModel model = Model();
  model.max_samples = 6;
  const std::string chat = R"({"messages": [{"role": "user", "content": "a"}], "n": )";
  EXPECT_TRUE(ReadChat(chat + "6}", model).ok());
  ExpectRefused({"chat", 400, "n", ""}, ReadChat(chat + "7}", model));
  EXPECT_TRUE(ReadCompletion(R"({"prompt": ["a", "b"], "n": 3})", model).ok());
  ExpectRefused({"prompts", 400, "n", ""},
                ReadCompletion(R"({"prompt": ["a", "b"], "n": 4})", model));
}

TEST(CompletionRequestTest, ChatsAreWordedByTheModelsTemplate) {
  const auto chat = ReadChat(
      R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"},
                                                    {"type": "text", "text": "b"}]}]})",
      Model());
  ASSERT_TRUE(chat.ok()) << chat.status();
  const auto expected = Model().chat_template->Render(
      {{"messages", {{{"role", "user"}, {"content", "a\nb"}}}}, {"add_generation_prompt", true}});
  EXPECT_EQ(chat->prompts.at(0).text, *expected);
  EXPECT_TRUE(chat->split_reasoning);
}

}  // namespace
}  // namespace tramontane
