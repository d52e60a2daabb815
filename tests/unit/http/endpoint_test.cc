// The endpoint over real sockets, with an engine whose every token the test gives out.
#include "services/generator/http/endpoint.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <set>
#include <thread>

#include "model/weights/socket_io.h"
#include "services/generator/http/field_reader.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

using std::chrono::seconds;

SteadyTime Soon(int s = 10) { return std::chrono::steady_clock::now() + seconds(s); }

class ScriptedEngine {
 public:
  EngineHooks Hooks() {
    return {.submit = [this](SampleRequest r) { return Submit(std::move(r)); },
            .cancel = [this](const std::string& id) { Cancel(id); },
            .stats =
                [this] {
                  EngineStats stats;
                  stats.healthy = healthy_;
                  return stats;
                }};
  }

  // The `number`-th request, from 0; waits until it is there.
  SampleRequest Request(size_t number) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_until(lock, Soon(), [&] { return requests_.size() > number; }));
    return requests_.at(number);
  }
  bool AwaitCancelled(const std::string& id) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, Soon(), [&] { return cancelled_.count(id) > 0; });
  }
  bool Cancelled(const std::string& id) {
    std::lock_guard lock(mutex_);
    return cancelled_.count(id) > 0;
  }
  // Before the first request: runs in every submission, on the thread that read the prompt.
  void OnSubmit(std::function<void()> on_submit) { on_submit_ = std::move(on_submit); }
  bool AwaitSubmitting(size_t requests) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, Soon(), [&] { return submitting_ >= requests; });
  }
  void Refuse(const absl::Status& status) {
    std::lock_guard lock(mutex_);
    refusal_ = status;
  }

  void Break() { healthy_ = false; }

  static void Say(const SampleRequest& request, const std::string& text, int32_t sample = 0) {
    request.on_chunk({.sample_index = sample, .tokens = {1}, .logprobs = {-1}, .text = text});
  }
  static void End(const SampleRequest& request, FinishReason reason = FinishReason::kStop,
                  int32_t sample = 0) {
    Rollout rollout;
    rollout.sample_index = sample;
    rollout.tokens = {1};
    rollout.finish_reason = reason;
    request.on_finished(std::move(rollout));
  }

 private:
  absl::Status Submit(SampleRequest request) {
    {
      std::lock_guard lock(mutex_);
      ++submitting_;
      changed_.notify_all();
    }
    if (on_submit_) on_submit_();
    std::lock_guard lock(mutex_);
    if (!refusal_.ok()) return refusal_;
    requests_.push_back(std::move(request));
    changed_.notify_all();
    return absl::OkStatus();
  }
  void Cancel(const std::string& id) {
    std::lock_guard lock(mutex_);
    cancelled_.insert(id);
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<SampleRequest> requests_;
  size_t submitting_ = 0;
  std::function<void()> on_submit_;
  std::set<std::string> cancelled_;
  absl::Status refusal_;
  std::atomic<bool> healthy_ = true;
};

// A client that reads when it is told to. HTTP/1.0: the answer comes unframed, and its end closes.
class Client {
 public:
  explicit Client(const std::string& address, int receive_buffer = 0) {
    auto fd = ConnectTcp(address, Soon());
    EXPECT_TRUE(fd.ok()) << fd.status();
    fd_ = *std::move(fd);
    if (receive_buffer > 0)
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  void Send(const std::string& text) {
    EXPECT_TRUE(SendAll(fd_.get(), text.data(), text.size(), -1, Soon()).ok());
  }
  void Post(const std::string& path, const std::string& body) {
    Send("POST " + path + " HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body);
  }
  void Get(const std::string& path) { Send("GET " + path + " HTTP/1.0\r\n\r\n"); }
  // Reads on until `text` has come; false when the answer ends or time is up before.
  bool Await(const std::string& text) {
    while (read_.find(text) == std::string::npos) {
      pollfd readable{fd_.get(), POLLIN, 0};
      if (::poll(&readable, 1, /*timeout_ms=*/10'000) != 1) return false;
      char bytes[4096];
      const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, 0);
      if (got <= 0) return false;
      read_.append(bytes, static_cast<size_t>(got));
    }
    return true;
  }
  const std::string& ReadAll() {
    Await("\x01 never sent");
    return read_;
  }
  int Status() { return Await("\r\n") ? std::stoi(read_.substr(9, 3)) : 0; }
  OrderedJson Body() {
    ReadAll();
    const size_t head = read_.find("\r\n\r\n");
    return OrderedJson::parse(head == std::string::npos ? "" : read_.substr(head + 4), nullptr,
                              false);
  }
  void Leave() { fd_.Reset(); }

 private:
  UniqueFd fd_;
  std::string read_;
};

class EndpointTest : public testing::Test {
 protected:
  void Start(const HttpServer::Options& server = {}) {
    const std::string folder = SourceFile("examples/demo/tokenizer");
    ServedModel model;
    model.name = "demo";
    model.tokenizer = *Tokenizer::Load(folder);
    model.chat_template = *ChatTemplate::Load(folder);
    model.grammars = std::make_shared<GrammarCompiler>(model.tokenizer, 264);
    model.context_tokens = 1 << 20;
    model.vocab_size = 264;
    auto endpoint =
        OpenAiEndpoint::Start({.server = server, .vllm_metric_aliases = true}, std::move(model),
                              engine_.Hooks(), searches_, &sessions_, metrics_);
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    endpoint_ = *std::move(endpoint);
  }
  Client Connect(int receive_buffer = 0) { return Client(endpoint_->address(), receive_buffer); }
  double Unanswered(const std::string& reason) {
    return metrics_.MakeCounter("tramontane_http_unanswered_total", {{"reason", reason}}).Value();
  }

  static constexpr char kText[] = "/v1/completions", kChat[] = "/v1/chat/completions";
  static constexpr char kStream[] = R"({"prompt": "a", "stream": true})";

  MetricsRegistry metrics_;
  ScriptedEngine engine_;
  SearchDesk searches_;  // none
  SessionStore sessions_{{.most_sessions = 2}, metrics_};
  std::unique_ptr<OpenAiEndpoint> endpoint_;
};

TEST_F(EndpointTest, AStreamHasItsPiecesInOrderAndThenDone) {
  Start();
  Client client = Connect();
  client.Post(kChat, R"({"messages": [{"role": "user", "content": "a"}], "stream": true,
                         "stream_options": {"include_usage": true}})");
  const SampleRequest request = engine_.Request(0);
  ScriptedEngine::Say(request, "<think>hm</thi");
  ASSERT_TRUE(client.Await("hm"));  // it comes while the rest is still to be sampled
  for (int i = 0; i < 50; ++i)
    ScriptedEngine::Say(request, (i == 0 ? "nk>" : " ") + std::to_string(i));
  ScriptedEngine::End(request);
  const std::string all = client.ReadAll();
  EXPECT_NE(all.find("text/event-stream"), std::string::npos);
  std::string reasoning, content, finish;
  size_t usages = 0;
  for (size_t at = all.find("data: {"); at != std::string::npos; at = all.find("data: {", at + 1)) {
    const OrderedJson event = OrderedJson::parse(all.substr(at + 6, all.find("\n\n", at) - at - 6));
    if (event["choices"].empty()) {
      usages += event["usage"]["completion_tokens"] == 1;
      continue;
    }
    EXPECT_EQ(event["object"], "chat.completion.chunk");
    const OrderedJson& choice = event["choices"][0];
    reasoning += choice["delta"].value("reasoning_content", "");
    content += choice["delta"].value("content", "");
    if (!choice["finish_reason"].is_null()) finish = choice["finish_reason"];
  }
  std::string expected = "0";
  for (int i = 1; i < 50; ++i) expected += " " + std::to_string(i);
  EXPECT_EQ(reasoning, "hm");
  EXPECT_EQ(content, expected);
  EXPECT_EQ(finish, "stop");
  EXPECT_EQ(usages, 1u);
  EXPECT_TRUE(all.ends_with("data: [DONE]\n\n"));
}

TEST_F(EndpointTest, AWholeAnswerHoldsEveryChoice) {
  Start();
  Client client = Connect();
  client.Post(kText, R"({"prompt": ["a", "b"], "n": 2, "logprobs": 1, "return_token_ids": true})");
  const SampleRequest first = engine_.Request(0), second = engine_.Request(1);
  for (const int32_t sample : {1, 0}) {
    for (const SampleRequest* request : {&second, &first}) {
      ScriptedEngine::Say(*request, request->prompt_tokens == first.prompt_tokens ? "x" : "y",
                          sample);
      ScriptedEngine::End(*request, FinishReason::kLength, sample);
    }
  }
  const OrderedJson reply = client.Body();
  ASSERT_EQ(reply["choices"].size(), 4u) << reply;
  for (int i = 0; i < 4; ++i) {
    const OrderedJson& choice = reply["choices"][i];
    EXPECT_EQ(choice["index"], i);
    EXPECT_EQ(choice["text"], i < 2 ? "x" : "y");
    EXPECT_EQ(choice["finish_reason"], "length");
    EXPECT_EQ(choice["token_ids"], OrderedJson({1}));
    EXPECT_EQ(choice["logprobs"]["token_logprobs"], OrderedJson({-1.0}));
  }
  EXPECT_EQ(reply["usage"]["completion_tokens"], 4);
}

TEST_F(EndpointTest, InjectedTokensAreMarkedAndHaveNoLogprob) {
  Start();
  Client text = Connect(), chat = Connect();
  text.Post(kText, R"({"prompt": "a", "logprobs": 1, "return_token_ids": true})");
  const SampleRequest first = engine_.Request(0);
  chat.Post(kChat, R"({"messages": [{"role": "user", "content": "a"}], "logprobs": true,
                       "return_token_ids": true})");
  const SampleRequest second = engine_.Request(1);
  for (const SampleRequest* request : {&first, &second}) {
    ScriptedEngine::Say(*request, "x");
    request->on_chunk({.tokens = {2, 3}, .logprobs = {0, 0}, .injected = true, .text = "yz"});
    ScriptedEngine::Say(*request, "w");
    Rollout rollout;
    rollout.tokens = {1, 2, 3, 1};
    rollout.injected = {{1, 2}};
    rollout.usage.injected = 2;
    rollout.finish_reason = FinishReason::kStop;
    request->on_finished(std::move(rollout));
  }
  const OrderedJson whole = text.Body(), said = chat.Body();
  const OrderedJson runs = OrderedJson::parse("[[1, 2]]");
  for (const OrderedJson* reply : {&whole, &said}) {
    EXPECT_EQ((*reply)["choices"][0]["injected"], runs) << *reply;
    EXPECT_EQ((*reply)["usage"]["completion_tokens"], 4);
    EXPECT_EQ((*reply)["usage"]["completion_tokens_details"]["injected_tokens"], 2);
  }
  EXPECT_EQ(whole["choices"][0]["logprobs"]["token_logprobs"],
            OrderedJson::parse("[-1.0, null, null, -1.0]"));
  EXPECT_TRUE(whole["choices"][0]["logprobs"]["top_logprobs"][1].is_null());
  const OrderedJson& entries = said["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[0]["logprob"], -1.0);
  EXPECT_FALSE(entries[0].contains("injected"));
  EXPECT_TRUE(entries[1]["logprob"].is_null());
  EXPECT_EQ(entries[2]["injected"], true);
}

TEST_F(EndpointTest, ASampleThatCannotGoOnInAHealthyEngineIsNoReasonToTryAgain) {
  Start();
  Client client = Connect();
  client.Post(kText, R"({"prompt": "a"})");
  ScriptedEngine::End(engine_.Request(0), FinishReason::kError);
  EXPECT_EQ(client.Status(), 500);
  EXPECT_EQ(client.Body()["error"]["code"], "internal_error");
  EXPECT_EQ(client.ReadAll().find("Retry-After"), std::string::npos);
}

TEST_F(EndpointTest, WhoLeavesHasHisSamplesCancelled) {
  Start();
  for (const char* body : {kStream, R"({"prompt": "a"})"}) {
    Client client = Connect();
    client.Post(kText, body);
    const SampleRequest request = engine_.Request(body == kStream ? 0 : 1);
    client.Leave();
    EXPECT_TRUE(engine_.AwaitCancelled(request.id));
    ScriptedEngine::End(request, FinishReason::kAborted);
  }
  EXPECT_EQ(Unanswered("client_left"), 2);
}

TEST_F(EndpointTest, ADeadlineThatPassesIsAnswered) {
  Start();
  Client whole = Connect(), stream = Connect();
  whole.Post(kText, R"({"prompt": "a", "timeout_s": 1})");
  const SampleRequest first = engine_.Request(0);
  stream.Post(kText, R"({"prompt": "a", "timeout_s": 2, "stream": true})");
  const SampleRequest second = engine_.Request(1);
  ScriptedEngine::Say(second, "begun");
  EXPECT_EQ(whole.Status(), 504);
  EXPECT_EQ(whole.Body()["error"]["code"], "timeout");
  const std::string all = stream.ReadAll();
  EXPECT_NE(all.find("begun"), std::string::npos);
  EXPECT_NE(all.find("timeout_error"), std::string::npos) << all;
  EXPECT_EQ(all.find("[DONE]"), std::string::npos);
  EXPECT_TRUE(engine_.AwaitCancelled(first.id) && engine_.AwaitCancelled(second.id));
}

TEST_F(EndpointTest, TheEngineKnowsTheDeadlineAndMayBeTheFirstToSeeItPass) {
  Start();
  Client client = Connect();
  const auto before = std::chrono::steady_clock::now();
  client.Post(kText, R"({"prompt": "a", "timeout_s": 100})");
  const SampleRequest request = engine_.Request(0);
  EXPECT_GE(request.deadline, before + seconds(100));
  EXPECT_LE(request.deadline, std::chrono::steady_clock::now() + seconds(100));
  ScriptedEngine::End(request, FinishReason::kTimeout);
  EXPECT_EQ(client.Status(), 504);
  EXPECT_EQ(Unanswered("deadline"), 1);
}

TEST_F(EndpointTest, AFullQueueSaysWhenToComeAgain) {
  Start();
  engine_.Refuse(absl::ResourceExhaustedError("waiting queue full"));
  Client client = Connect();
  client.Post(kText, kStream);
  EXPECT_EQ(client.Status(), 429);
  EXPECT_NE(client.ReadAll().find("Retry-After: 1"), std::string::npos);
}

TEST_F(EndpointTest, ABrokenEngineIsAnErrorToWhoeverWaits) {
  Start();
  Client whole = Connect(), stream = Connect();
  whole.Post(kText, R"({"prompt": "a"})");
  const SampleRequest lost = engine_.Request(0);
  engine_.Break();
  ScriptedEngine::End(lost, FinishReason::kError);
  EXPECT_EQ(whole.Status(), 503);
  stream.Post(kText, kStream);
  const SampleRequest request = engine_.Request(1);
  ScriptedEngine::Say(request, "begun");
  ASSERT_TRUE(stream.Await("begun"));
  ScriptedEngine::End(request, FinishReason::kAborted);
  EXPECT_NE(stream.ReadAll().find("server_error"), std::string::npos);
}

TEST_F(EndpointTest, ASlowReaderBlocksNobodyAndIsDropped) {
  Start({.idle_timeout_s = 1});
  Client slow = Connect(4096), quick = Connect();
  slow.Post(kText, kStream);
  const SampleRequest slow_request = engine_.Request(0);
  quick.Post(kText, kStream);
  const SampleRequest quick_request = engine_.Request(1);
  const std::string piece(100'000, 's');
  for (int i = 0; i < 100; ++i) {  // far more than sockets hold
    ScriptedEngine::Say(slow_request, piece);
    const std::string mark = "mark-" + std::to_string(i) + ".";
    ScriptedEngine::Say(quick_request, mark);
    ASSERT_TRUE(quick.Await(mark));
  }
  EXPECT_TRUE(engine_.AwaitCancelled(slow_request.id));
  EXPECT_FALSE(engine_.Cancelled(quick_request.id));
  ScriptedEngine::End(slow_request, FinishReason::kAborted);
  ScriptedEngine::End(quick_request);
  EXPECT_TRUE(quick.ReadAll().ends_with("[DONE]\n\n"));
  EXPECT_EQ(Unanswered("slow_reader"), 1);
}

TEST_F(EndpointTest, BadRequestsDisturbNoStream) {
  Start({.max_body_bytes = 1 << 20});
  Client stream = Connect();
  stream.Post(kText, kStream);
  const SampleRequest request = engine_.Request(0);
  const std::pair<std::string, int> bad[] = {
      {"{", 400},
      {"{\"prompt\": \"\xff\"}", 400},
      {R"({"prompt": "a", "max_tokens": -5})", 400},
      {R"({"prompt": "a", "stop": {}})", 400},
      {R"({"prompt": "a", "model": "other"})", 404},
      {R"({"prompt": "a", "guided_json": "{"})", 400},
      {"{\"prompt\": \"" + std::string(10 << 20, 'a') + "\"}", 413},
      {"{\"prompt\": " + std::string(1 << 19, '[') + "}", 400},
  };
  int number = 0;
  for (const auto& [body, status] : bad) {
    Client client = Connect();
    client.Post(kText, body);
    EXPECT_EQ(client.Status(), status) << body.substr(0, 80);
    EXPECT_TRUE(client.Body()["error"]["message"].is_string());
    const std::string mark = "mark-" + std::to_string(number++) + ".";
    ScriptedEngine::Say(request, mark);
    ASSERT_TRUE(stream.Await(mark));
  }
  ScriptedEngine::End(request);
  EXPECT_TRUE(stream.ReadAll().ends_with("[DONE]\n\n"));
}

TEST_F(EndpointTest, ConnectionsBeyondTheBoundAreToldSo) {
  Start({.max_connections = 2});
  Client first = Connect(), second = Connect();
  first.Post(kText, kStream);
  const SampleRequest request = engine_.Request(0);
  second.Post(kText, kStream);
  const SampleRequest other = engine_.Request(1);
  Client third = Connect();
  third.Get("/health");
  EXPECT_EQ(third.Status(), 503);
  EXPECT_EQ(third.Body()["error"]["type"], "server_error");
  for (const SampleRequest* open : {&request, &other}) ScriptedEngine::End(*open);
  EXPECT_TRUE(first.ReadAll().ends_with("[DONE]\n\n"));
  EXPECT_TRUE(second.ReadAll().ends_with("[DONE]\n\n"));
  Client fourth = Connect();
  fourth.Get("/health");
  EXPECT_EQ(fourth.Status(), 200);
}

TEST_F(EndpointTest, DrainingLetsOpenRequestsFinishAndRefusesNewOnes) {
  Start();
  Client open = Connect();
  open.Post(kText, kStream);
  const SampleRequest request = engine_.Request(0);
  std::jthread drain([this] { endpoint_->Drain(10); });
  int status = 0;
  const SteadyTime deadline = Soon();
  while (status != 503 && std::chrono::steady_clock::now() < deadline) {
    Client probe = Connect();
    probe.Get("/health");
    status = probe.Status();
  }
  Client late = Connect();
  late.Post(kText, R"({"prompt": "a"})");
  EXPECT_EQ(late.Status(), 503);
  ScriptedEngine::Say(request, "the end");
  ScriptedEngine::End(request);
  EXPECT_TRUE(open.Await("[DONE]"));
  drain.join();
}

TEST_F(EndpointTest, StoppingTheServerEndsWhatIsOpen) {
  Start();
  Client whole = Connect(), stream = Connect();
  whole.Post(kText, R"({"prompt": "a"})");
  const SampleRequest first = engine_.Request(0);
  stream.Post(kText, kStream);
  const SampleRequest second = engine_.Request(1);
  endpoint_.reset();
  EXPECT_TRUE(engine_.Cancelled(first.id) && engine_.Cancelled(second.id));
  ScriptedEngine::Say(second, "too late");
  ScriptedEngine::End(second, FinishReason::kAborted);
  EXPECT_EQ(stream.ReadAll().find("too late"), std::string::npos);
}

TEST_F(EndpointTest, HealthIsAnsweredWhilePromptsAreBeingRead) {
  Start();
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  engine_.OnSubmit([released] { released.wait(); });
  Client first = Connect(), second = Connect();
  for (Client* client : {&first, &second}) client->Post(kText, kStream);
  ASSERT_TRUE(engine_.AwaitSubmitting(2));  // both of the threads that read prompts are busy
  Client health = Connect();
  health.Get("/health");
  EXPECT_EQ(health.Status(), 200);
  release.set_value();
  for (size_t i : {0, 1}) ScriptedEngine::End(engine_.Request(i));
  EXPECT_TRUE(first.Await("[DONE]") && second.Await("[DONE]"));
}

TEST_F(EndpointTest, SmallPagesAnswer) {
  Start();
  const auto get = [this](const std::string& path) {
    Client client = Connect();
    client.Get(path);
    client.ReadAll();
    return client;
  };
  EXPECT_EQ(get("/v1/models").Body()["data"][0]["id"], "demo");
  EXPECT_EQ(get("/v1/models/demo").Body()["max_model_len"], 1 << 20);
  EXPECT_EQ(get("/v1/models/other").Status(), 404);
  EXPECT_EQ(get("/nothing").Status(), 404);
  EXPECT_EQ(get("/v1/completions").Status(), 405);
  EXPECT_NE(get("/metrics").ReadAll().find("tramontane_http_requests_total"), std::string::npos);
}

// Searches whose results the test gives out.
class EndpointSearch : public EndpointTest {
 protected:
  void SetUp() override {
    searches_.start = [this](SearchOrder order) {
      std::lock_guard lock(mutex_);
      if (!refusal_.ok()) return refusal_;
      orders_.push_back(std::move(order));
      changed_.notify_all();
      return absl::OkStatus();
    };
    searches_.cancel = [this](const std::string& id) {
      std::lock_guard lock(mutex_);
      cancelled_.insert(id);
      changed_.notify_all();
    };
    Start();
  }
  SearchOrder Order(size_t number) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_until(lock, Soon(), [&] { return orders_.size() > number; }));
    return orders_.at(number);
  }
  bool AwaitCancelled(const std::string& id) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, Soon(), [&] { return cancelled_.count(id) > 0; });
  }
  static SearchResult Found() {
    SearchResult result;
    result.best.rollout.tokens = {104, 33, 105};
    result.best.rollout.logprobs = {-1, 0, -2};
    result.best.rollout.injected = {{1, 1}};
    result.best.rollout.text = "h!i";
    result.best.rollout.finish_reason = FinishReason::kStop;
    result.best.rollout.sample_index = 3;
    result.best.score = 0.5;
    result.candidates = {result.best, result.best};
    result.sampled_tokens = 40;
    return result;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<SearchOrder> orders_;
  std::set<std::string> cancelled_;
  absl::Status refusal_;
};

TEST_F(EndpointSearch, AnswersWithWhatWasFoundAndCountsAllThatWasSampled) {
  Client client = Connect();
  client.Post(kText, R"({"prompt": ["a", "b"], "return_token_ids": true, "logprobs": 0, "seed": 7,
      "search": {"method": "beam", "n": 4, "scorer": "math", "answers": ["1", "2"]}})");
  const SearchOrder first = Order(0), second = Order(1);
  EXPECT_EQ(first.ask.params.method, "beam");
  EXPECT_EQ(first.row.prompt + first.row.answer + second.row.answer, "a12");
  EXPECT_EQ(second.sample.sampling.seed, 7u);
  EXPECT_LT(second.sample.deadline, Soon(3600));
  first.done(Found());
  second.done(Found());
  const OrderedJson body = client.Body();
  const OrderedJson& choice = body["choices"][1];
  EXPECT_EQ(choice["text"], "h!i");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["injected"], OrderedJson::parse("[[1,1]]"));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], OrderedJson::parse("[-1.0,null,-2.0]"));
  EXPECT_EQ(choice["search"]["sampled_tokens"], 40);
  EXPECT_EQ(choice["search"]["candidates"].size(), 2u);
  EXPECT_EQ(body["usage"]["completion_tokens"], 2 * (40 + 1));  // and one that was put in
}

TEST_F(EndpointSearch, AChatStreamsWhatWasFoundAtOnce) {
  Client client = Connect();
  client.Post(kChat, R"({"messages": [{"role": "user", "content": "a"}], "stream": true,
                         "search": {"method": "majority"}})");
  const SearchOrder order = Order(0);
  ASSERT_EQ(order.row.messages.size(), 1u);
  EXPECT_EQ(order.row.messages[0].content, "a");
  order.done(Found());
  const std::string all = client.ReadAll();
  EXPECT_NE(all.find("h!i"), std::string::npos) << all;
  EXPECT_NE(all.find("\"search\":{"), std::string::npos) << all;
  EXPECT_NE(all.find("[DONE]"), std::string::npos) << all;
}

TEST_F(EndpointSearch, WhoLeavesHasItsSearchesCancelled) {
  Client client = Connect();
  client.Post(kText, R"({"prompt": "a", "search": {}})");
  const SearchOrder order = Order(0);
  client.Leave();
  EXPECT_TRUE(AwaitCancelled(order.sample.id));
  order.done(absl::CancelledError("the search was cancelled"));
  EXPECT_FALSE(engine_.Cancelled(order.sample.id));
}

TEST_F(EndpointSearch, ErrorsHaveTheirStatus) {
  size_t number = 0;
  for (const auto& [status, http] : {std::pair{absl::DeadlineExceededError("late"), 504},
                                     {absl::UnavailableError("verifier away"), 503},
                                     {absl::InvalidArgumentError("search.n: no"), 400}}) {
    Client client = Connect();
    client.Post(kText, R"({"prompt": "a", "search": {}})");
    Order(number++).done(status);
    EXPECT_EQ(client.Status(), http);
  }
  refusal_ = absl::ResourceExhaustedError("too many searches");
  Client client = Connect();
  client.Post(kText, R"({"prompt": "a", "search": {}})");
  EXPECT_EQ(client.Status(), 429);
  for (const char* wrong : {R"("n": 2, "search": {})", R"("logprobs": 1, "search": {})",
                            R"("echo": true, "search": {})", R"("search": {"n": 0})",
                            R"("search": {"answers": ["1"]})"}) {
    Client bad = Connect();
    bad.Post(kText, std::string(R"({"prompt": "a", )") + wrong + "}");
    EXPECT_EQ(bad.Status(), 400) << wrong;
  }
}

TEST_F(EndpointTest, AServerWithoutSearchesSaysSo) {
  Start();
  Client client = Connect();
  client.Post(kText, R"({"prompt": "a", "search": {}})");
  EXPECT_EQ(client.Status(), 422);
}

// Ends a request with what it said, and returns the body of the reply.
class EndpointSession : public EndpointTest {
 protected:
  void SetUp() override { Start(); }
  OrderedJson Turn(const std::string& session, const std::string& prompt_ids, size_t number,
                   std::vector<int32_t> says) {
    Client client = Connect();
    client.Post(kText, R"({"prompt": [)" + prompt_ids + R"(], "session": ")" + session +
                           R"(", "return_token_ids": true})");
    const SampleRequest request = engine_.Request(number);
    asked_ = request.prompt_tokens;
    Rollout rollout;
    rollout.tokens = std::move(says);
    rollout.logprobs.assign(rollout.tokens.size(), -1);
    rollout.finish_reason = FinishReason::kStop;
    request.on_finished(std::move(rollout));
    return client.Body();
  }
  int StatusOf(const std::string& session, const std::string& more = "") {
    Client client = Connect();
    client.Post(kText, R"({"prompt": "a", "session": ")" + session + "\"" + more + "}");
    return client.Status();
  }
  int Delete(const std::string& id) {
    Client client = Connect();
    client.Send("DELETE /v1/sessions/" + id + " HTTP/1.0\r\n\r\n");
    return client.Status();
  }
  std::vector<int32_t> asked_;
};

TEST_F(EndpointSession, EachTurnFollowsAllThatWasSaidTokenByToken) {
  const OrderedJson first = Turn("new", "1, 2", 0, {7, 8});
  const std::string id = first["session"];
  Turn(id, "3", 1, {9});
  EXPECT_EQ(asked_, (std::vector<int32_t>{1, 2, 7, 8, 3}));
  const OrderedJson third = Turn(id, "4", 2, {});
  EXPECT_EQ(asked_, (std::vector<int32_t>{1, 2, 7, 8, 3, 9, 4}));
  EXPECT_EQ(third["usage"]["prompt_tokens"], 7);
  EXPECT_EQ(Delete(id), 200);
  EXPECT_EQ(StatusOf(id), 404);
  EXPECT_EQ(Delete(id), 404);
}

TEST_F(EndpointSession, ATurnThatFailsLeavesTheSessionAsItWas) {
  const std::string id = Turn("new", "1, 2", 0, {7})["session"];
  Client client = Connect();
  client.Post(kText, R"({"prompt": "x", "session": ")" + id + "\"}");
  const SampleRequest held = engine_.Request(1);
  EXPECT_EQ(StatusOf(id), 409);  // its turn is under way
  EXPECT_EQ(Delete(id), 409);
  ScriptedEngine::End(held, FinishReason::kAborted);
  EXPECT_EQ(client.Status(), 503);
  engine_.Refuse(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(StatusOf(id), 429);
  engine_.Refuse(absl::OkStatus());
  Turn(id, "3", 2, {});
  EXPECT_EQ(asked_, (std::vector<int32_t>{1, 2, 7, 3}));
}

TEST_F(EndpointSession, TheirNumberIsBoundedAndWhatTheyCannotDoIsRefused) {
  Turn("new", "1", 0, {1});
  Turn("new", "2", 1, {1});
  EXPECT_EQ(StatusOf("new"), 429);
  for (const char* more : {R"(, "n": 2)", R"(, "echo": true)", R"(, "search": {})"})
    EXPECT_EQ(StatusOf("new", more), 400) << more;
  EXPECT_EQ(StatusOf("nobody"), 404);
}

// A chat's turns; what the model says is the test's.
class EndpointChatSession : public EndpointSession {
 protected:
  OrderedJson Chat(const std::string& session, const OrderedJson& messages, size_t number,
                   const std::string& says, FinishReason reason = FinishReason::kStop) {
    Client client = Connect();
    client.Post(kChat, OrderedJson{{"messages", messages},
                                   {"session", session},
                                   {"separate_reasoning", false},
                                   {"return_token_ids", true}}
                           .dump());
    const SampleRequest request = engine_.Request(number);
    asked_ = request.prompt_tokens;
    Rollout rollout;
    rollout.tokens = kTokenizer->Encode(says, /*add_special_tokens=*/false).value();
    request.on_chunk({.tokens = rollout.tokens,
                      .logprobs = std::vector<float>(rollout.tokens.size(), -1.0f),
                      .text = says});
    if (reason == FinishReason::kStop) rollout.tokens.push_back(kImEnd);
    rollout.logprobs.assign(rollout.tokens.size(), -1);
    rollout.finish_reason = reason;
    rollout.cached_prompt_tokens = 16;
    said_ = asked_;
    said_.insert(said_.end(), rollout.tokens.begin(), rollout.tokens.end());
    request.on_finished(std::move(rollout));
    return client.Body();
  }
  static OrderedJson Says(const std::string& role, const std::string& content) {
    return {{"role", role}, {"content", content}};
  }
  std::vector<int32_t> Fresh(const OrderedJson& messages, size_t number) {
    Client client = Connect();
    client.Post(kChat, OrderedJson{{"messages", messages}}.dump());
    const SampleRequest request = engine_.Request(number);
    ScriptedEngine::End(request);
    client.ReadAll();
    return request.prompt_tokens;
  }
  double Rewrites() {
    return metrics_.MakeCounter("tramontane_generator_session_rewrites_total").Value();
  }

  const std::shared_ptr<const Tokenizer> kTokenizer =
      *Tokenizer::Load(SourceFile("examples/demo/tokenizer"));
  const int32_t kImEnd = kTokenizer->TokenId("<|im_end|>");
  std::vector<int32_t> said_;  // the prompt and what was answered
};

TEST_F(EndpointChatSession, ATurnGoesOnWithTheTokensOfTheEarlierOnes) {
  ASSERT_GE(kImEnd, 0);
  OrderedJson messages = {Says("user", "hello")};
  for (const FinishReason reason : {FinishReason::kStop, FinishReason::kLength}) {
    const size_t at = reason == FinishReason::kStop ? 0 : 3;
    messages = {Says("user", "hello")};
    const OrderedJson first = Chat("new", messages, at, "hi", reason);
    EXPECT_EQ(first["session_kept_tokens"], 0);
    const std::vector<int32_t> said = said_;
    messages.push_back(Says("assistant", first["choices"][0]["message"]["content"]));
    messages.push_back(Says("user", "and?"));
    const OrderedJson second = Chat(first["session"], messages, at + 1, "so");
    EXPECT_EQ(second["session"], first["session"]);
    EXPECT_EQ(second["session_kept_tokens"], said.size());
    EXPECT_EQ(second["usage"]["prompt_tokens"], asked_.size());
    EXPECT_EQ(second["usage"]["prompt_tokens_details"]["cached_tokens"], 16);
    ASSERT_GT(asked_.size(), said.size());
    EXPECT_TRUE(std::equal(said.begin(), said.end(), asked_.begin()));
    EXPECT_EQ(asked_, Fresh(messages, at + 2)) << "bytes: the tokens are those of the text";
    Delete(first["session"]);
  }
  EXPECT_EQ(Rewrites(), 0);
}

TEST_F(EndpointChatSession, AMessageThatIsToldOtherwiseIsReadAnew) {
  OrderedJson messages = {Says("user", "hello")};
  const std::string id = Chat("new", messages, 0, "hi")["session"];
  messages.push_back(Says("assistant", "HI"));  // it said something else
  messages.push_back(Says("user", "and?"));
  const OrderedJson second = Chat(id, messages, 1, "so");
  EXPECT_EQ(second["session_kept_tokens"], 0);
  EXPECT_EQ(asked_, Fresh(messages, 2));
  EXPECT_EQ(Rewrites(), 1);
  const std::vector<int32_t> said = said_;
  messages.push_back(Says("assistant", "so"));
  messages.push_back(Says("user", "good"));
  EXPECT_EQ(Chat(id, messages, 3, "!")["session_kept_tokens"], said.size())
      << "the session went on from what was told";
}

}  // namespace
}  // namespace tramontane
