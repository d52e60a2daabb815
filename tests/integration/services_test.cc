// Generator and trainer services against each other over real gRPC, with a small random model.

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/files.h"
#include "generator/engine_hooks.h"
#include "generator/search/search_pool.h"
#include "generator/session_store.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "model/init.h"
#include "model/model_dir.h"
#include "model/weights/transport.h"
#include "services/convert.h"
#include "services/generator/announcer.h"
#include "services/generator/service.h"
#include "services/host_id.h"
#include "services/rpc.h"
#include "services/run_files.h"
#include "services/runner.h"
#include "services/trainer/publisher.h"
#include "services/trainer/service.h"
#include "tests/support/redis_server.h"
#include "tests/support/source_file.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

using namespace std::chrono_literals;

constexpr int kVocab = 264;

Json TinyConfig() {
  return {{"model_type", "qwen3"},
          {"vocab_size", kVocab},
          {"hidden_size", 32},
          {"intermediate_size", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 16},
          {"max_position_embeddings", 4096},
          {"rms_norm_eps", 1e-6},
          {"tie_word_embeddings", true},
          {"eos_token_id", 258},
          {"rope_theta", 10000.0}};
}

// Folder of a random model; one per seed, made once per test process and removed at its end.
std::string ModelDir(uint64_t seed) {
  static const TempDir root;
  const std::string dir = root.path() + "/" + std::to_string(seed);
  if (!std::filesystem::exists(dir)) {
    EXPECT_TRUE(MakeDirs(dir).ok());
    const auto made = InitModel(TinyConfig(), SourceFile("examples/demo/tokenizer"), dir, seed);
    EXPECT_TRUE(made.ok()) << made.status();
  }
  return dir;
}

struct Weights {
  WeightManifest manifest;
  std::vector<char> payload;
};

// What a trainer would publish: another model's weights, with manifest and probe.
Weights WeightsOf(uint64_t seed, int64_t version, int64_t epoch = 1) {
  MetricsRegistry metrics;
  auto model = LoadModelDir(ModelDir(seed));
  EXPECT_TRUE(model.ok()) << model.status();
  auto learner = Learner::Create(RunConfig{}, *model, metrics);
  EXPECT_TRUE(learner.ok()) << learner.status();
  Weights weights;
  weights.manifest = (*learner)->Snapshot(version, weights.payload);
  weights.manifest.trainer_epoch = epoch;
  return weights;
}

struct Streamed {
  std::map<int, std::vector<int32_t>> chunk_tokens;  // by sample, concatenated
  std::map<int, std::vector<float>> chunk_logprobs;
  std::map<int, std::string> chunk_text;
  std::map<int, Rollout> finished;
  std::optional<v1::SearchReport> search;
  std::string session;
  absl::Status status;
};

bool Eventually(const std::function<bool()>& condition) {
  const auto give_up = std::chrono::steady_clock::now() + 60s;
  while (!condition() && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(5ms);
  }
  return condition();
}

// A sample that holds the engine for a moment at each step, and with it whatever else is sampled,
// until it is released: what a test does meanwhile comes in the middle of long samples for sure.
class Brake {
 public:
  explicit Brake(Engine& engine) : engine_(engine) {
    SampleRequest sample;
    sample.id = "brake";
    sample.prompt_tokens = {'1'};
    sample.sampling.max_new_tokens = 4000;
    sample.sampling.ignore_eos = true;
    sample.on_chunk = [released = released_](TokenChunk) { released.wait_for(20ms); };
    sample.on_finished = [](Rollout) {};
    const absl::Status submitted = engine.Submit(std::move(sample));
    EXPECT_TRUE(submitted.ok()) << submitted;
  }
  ~Brake() { Release(); }
  void Release() {
    if (std::exchange(holds_, false)) release_.set_value();
    engine_.Cancel("brake");
  }

 private:
  Engine& engine_;
  bool holds_ = true;
  std::promise<void> release_;
  const std::shared_future<void> released_ = release_.get_future().share();
};

class ServicesTest : public testing::Test {
 protected:
  ServicesTest() {
    text_ = *LoadTextTools(ModelDir(1));
    identity_ = MakeIdentity("run-1", text_);
    EngineOptions options;
    options.max_running_sequences = 64;
    options.kv_blocks = 8192;
    auto engine = Engine::Create(options, *LoadModelDir(ModelDir(1)), text_.tokenizer, metrics_);
    EXPECT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    service_.emplace(GeneratorService::Options{.process = "generator-0", .identity = identity_},
                     *engine_, text_.tokenizer, metrics_);
    searches_.emplace(SearchPoolOptions(), HooksOf(*engine_), metrics_);
    service_->ServeSearches({.start = [this](SearchOrder order) { return Start(std::move(order)); },
                             .cancel = [this](const std::string& id) { searches_->Cancel(id); }});
    service_->ServeSessions(sessions_);
    runner_.emplace(Loopback("generator-0"), metrics_);
    runner_->set_identity(identity_);
    runner_->AddService(&*service_, v1::Generator::service_full_name());
    runner_->OnState([this] { return service_->Status(); });
    const absl::Status started = runner_->Start();
    EXPECT_TRUE(started.ok()) << started;
    generator_ = v1::Generator::NewStub(MakeChannel(runner_->address()));
  }
  ~ServicesTest() override { EXPECT_EQ(runner_->Shutdown(), 0); }

  absl::Status Start(SearchOrder order) {
    SearchTools tools;
    tools.answer = [](const std::string& text) {
      return std::optional(std::to_string(text.size() % 3));
    };
    tools.same = [](const std::string& a, const std::string& b) { return a == b; };
    if (order.ask.by_value()) {
      tools.score = [](const std::vector<const SearchPath*>& paths) {
        std::vector<double> texts;
        for (const SearchPath* path : paths) texts.push_back(-1.0 * path->rollout.text.size());
        return absl::StatusOr<std::vector<double>>(texts);
      };
    }
    return searches_->Submit({.params = order.ask.params,
                              .sample = std::move(order.sample),
                              .tools = std::move(tools),
                              .done = std::move(order.done)});
  }

  static RunnerOptions Loopback(const std::string& process) {
    return {.process = process, .bind = "127.0.0.1:0", .drain_deadline_s = 2};
  }

  v1::GenerateRequest Request(const std::string& id, int max_new_tokens, int n = 1) const {
    v1::GenerateRequest request;
    *request.mutable_handshake() = MakeHandshake(identity_);
    request.set_request_id(id);
    for (int token : {'1', '2', '+', '3', '='}) request.mutable_prompt_tokens()->add_tokens(token);
    request.mutable_sampling()->set_max_new_tokens(static_cast<uint32_t>(max_new_tokens));
    request.mutable_sampling()->set_seed(7);
    request.mutable_sampling()->set_ignore_eos(true);
    request.set_n(static_cast<uint32_t>(n));
    return request;
  }

  static void Take(const v1::GenerateEvent& event, Streamed& streamed) {
    if (event.has_chunk()) {
      const v1::TokenChunk& chunk = event.chunk();
      const int sample = static_cast<int>(chunk.sample_index());
      auto& tokens = streamed.chunk_tokens[sample];
      tokens.insert(tokens.end(), chunk.tokens().begin(), chunk.tokens().end());
      auto& logprobs = streamed.chunk_logprobs[sample];
      logprobs.insert(logprobs.end(), chunk.logprobs().begin(), chunk.logprobs().end());
      streamed.chunk_text[sample] += chunk.text();
    } else if (event.has_search()) {
      EXPECT_TRUE(streamed.finished.empty());
      streamed.search = event.search();
    } else {
      absl::StatusOr<Rollout> rollout = FromProto(event.finished());
      EXPECT_TRUE(rollout.ok()) << rollout.status();
      streamed.session = event.session();
      if (rollout.ok()) streamed.finished[rollout->sample_index] = *rollout;
    }
  }

  Streamed Generate(const v1::GenerateRequest& request) {
    Streamed streamed;
    grpc::ClientContext context;
    SetDeadline(context, 120);
    auto reader = generator_->Generate(&context, request);
    v1::GenerateEvent event;
    while (reader->Read(&event)) Take(event, streamed);
    streamed.status = FromGrpc(reader->Finish());
    return streamed;
  }

  // Generate() with a message of these bytes; only how it ends.
  absl::Status RawGenerate(const std::string& bytes) {
    grpc::ClientContext context;
    SetDeadline(context, 60);
    grpc::CompletionQueue queue;
    grpc::GenericStub stub(MakeChannel(runner_->address()));
    const grpc::Slice slice(bytes);
    const auto call = stub.PrepareUnaryCall(&context, "/tramontane.v1.Generator/Generate",
                                            grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer reply;
    grpc::Status status;
    call->Finish(&reply, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return FromGrpc(status);
  }

  absl::Status Prepare(const v1::PrepareWeightsRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context, 60);
    v1::PrepareWeightsReply reply;
    return FromGrpc(generator_->PrepareWeights(&context, request, &reply));
  }

  absl::Status Commit(int64_t version, int64_t epoch) {
    grpc::ClientContext context;
    SetDeadline(context, 60);
    v1::CommitWeightsRequest request;
    request.set_version(version);
    request.set_trainer_epoch(epoch);
    v1::CommitWeightsReply reply;
    return FromGrpc(generator_->CommitWeights(&context, request, &reply));
  }

  v1::PrepareWeightsRequest FromSharedMemory(const Weights& weights,
                                             const std::string& name) const {
    v1::PrepareWeightsRequest request;
    *request.mutable_handshake() = MakeHandshake(identity_);
    *request.mutable_manifest() = ToProto(weights.manifest);
    request.set_shared_memory_name(name);
    return request;
  }

  std::string Prefix() const { return "tramontane-services-test." + std::to_string(::getpid()); }

  MetricsRegistry metrics_;
  TextTools text_;
  Identity identity_;
  SessionStore sessions_{{.most_sessions = 1}, metrics_};
  std::unique_ptr<Engine> engine_;
  std::optional<GeneratorService> service_;
  std::optional<SearchPool> searches_;
  std::optional<ServiceRunner> runner_;
  std::unique_ptr<v1::Generator::Stub> generator_;
};

TEST_F(ServicesTest, StreamsEqualTheEnginesOwnResults) {
  const v1::GenerateRequest request = Request("a", 60, 4);
  const Streamed streamed = Generate(request);
  ASSERT_TRUE(streamed.status.ok()) << streamed.status;
  ASSERT_EQ(streamed.finished.size(), 4u);

  Mailbox<Rollout> direct(4);
  SampleRequest sample;
  sample.id = "direct";
  sample.prompt_tokens.assign(request.prompt_tokens().tokens().begin(),
                              request.prompt_tokens().tokens().end());
  sample.sampling = *FromProto(request.sampling());
  sample.n = 4;
  sample.on_finished = [&](Rollout rollout) { direct.TryPush(std::move(rollout)); };
  ASSERT_TRUE(engine_->Submit(std::move(sample)).ok());
  for (int i = 0; i < 4; ++i) {
    const std::optional<Rollout> expected = direct.Pop(20s);
    ASSERT_TRUE(expected.has_value());
    const Rollout& got = streamed.finished.at(expected->sample_index);
    EXPECT_EQ(got.tokens, expected->tokens);
    EXPECT_EQ(got.text, expected->text);
    EXPECT_EQ(got.finish_reason, FinishReason::kLength);
    EXPECT_EQ(streamed.chunk_tokens.at(expected->sample_index), expected->tokens);
    EXPECT_EQ(streamed.chunk_logprobs.at(expected->sample_index), got.logprobs);
    EXPECT_EQ(streamed.chunk_text.at(expected->sample_index), expected->text);
    ASSERT_EQ(got.logprobs.size(), expected->logprobs.size());
    for (size_t t = 0; t < got.logprobs.size(); ++t) {
      EXPECT_NEAR(got.logprobs[t], expected->logprobs[t], 1e-5);
    }
  }
}

TEST_F(ServicesTest, ASearchReportsAmongWhatItFoundTheResponse) {
  const Streamed plain = Generate(Request("plain", 40));
  v1::GenerateRequest one = Request("one", 40);
  one.mutable_search()->set_method("beam");
  one.mutable_search()->set_n(1);
  one.mutable_search()->set_expansion(1);
  one.mutable_search()->set_step_end("1");
  const Streamed beam = Generate(one);
  ASSERT_TRUE(beam.status.ok()) << beam.status;
  EXPECT_EQ(beam.finished.at(0).tokens, plain.finished.at(0).tokens);
  EXPECT_TRUE(beam.chunk_tokens.empty());
  ASSERT_TRUE(beam.search.has_value());
  EXPECT_EQ(beam.search->sampled_tokens(), 40u);

  v1::GenerateRequest many = Request("many", 40);
  many.mutable_search()->set_method("majority");
  many.mutable_search()->set_n(5);
  const Streamed majority = Generate(many);
  ASSERT_TRUE(majority.search.has_value()) << majority.status;
  EXPECT_EQ(majority.search->candidates_size(), 5);
  EXPECT_EQ(majority.search->sampled_tokens(), 200u);
  EXPECT_FALSE(majority.search->has_score());
  EXPECT_EQ(majority.search->answer(), std::to_string(majority.finished.at(0).text.size() % 3));

  v1::GenerateRequest judged = Request("judged", 40);
  judged.mutable_search()->set_scorer("value");
  const Streamed shortest = Generate(judged);
  ASSERT_TRUE(shortest.search.has_value()) << shortest.status;
  EXPECT_EQ(shortest.search->score(), -1.0 * shortest.finished.at(0).text.size());
  judged.mutable_search()->set_answer("7");
  EXPECT_TRUE(absl::IsInvalidArgument(Generate(judged).status)) << "a critic takes no answers";

  v1::GenerateRequest wrong = Request("wrong", 40);
  wrong.mutable_search()->set_gamma(2);
  EXPECT_TRUE(absl::IsInvalidArgument(Generate(wrong).status));
  v1::GenerateRequest several = Request("several", 40, 2);
  several.mutable_search();
  EXPECT_TRUE(absl::IsInvalidArgument(Generate(several).status));
}

TEST_F(ServicesTest, ASessionGoesOnWithAllThatWasSaid) {
  v1::GenerateRequest first = Request("first", 20);
  first.set_session("new");
  const Streamed begun = Generate(first);
  ASSERT_FALSE(begun.session.empty()) << begun.status;
  v1::GenerateRequest second = Request("second", 20), whole = Request("whole", 20);
  second.set_session(begun.session);
  for (int token : begun.finished.at(0).tokens) whole.mutable_prompt_tokens()->add_tokens(token);
  for (int token : second.prompt_tokens().tokens())
    whole.mutable_prompt_tokens()->add_tokens(token);
  EXPECT_EQ(Generate(second).finished.at(0).tokens, Generate(whole).finished.at(0).tokens);

  v1::GenerateRequest several = Request("several", 5, 2), unknown = Request("unknown", 5);
  several.set_session(begun.session);
  EXPECT_TRUE(absl::IsInvalidArgument(Generate(several).status));
  v1::GenerateRequest another = Request("another", 5);
  another.set_session("new");
  EXPECT_TRUE(absl::IsResourceExhausted(Generate(another).status));
  unknown.set_session("nobody");
  EXPECT_TRUE(absl::IsNotFound(Generate(unknown).status));
  v1::CloseSessionRequest close;
  close.set_session(begun.session);
  for (const bool there : {true, false}) {
    grpc::ClientContext context;
    SetDeadline(context, 10);
    v1::CloseSessionReply reply;
    const absl::Status closed = FromGrpc(generator_->CloseSession(&context, close, &reply));
    EXPECT_EQ(closed.code(), there ? absl::StatusCode::kOk : absl::StatusCode::kNotFound);
  }
}

TEST_F(ServicesTest, ACancelledSearchFreesItsSequencesAndADeadlineEndsOne) {
  Brake brake(*engine_);
  grpc::ClientContext context;
  SetDeadline(context, 60);
  v1::GenerateRequest request = Request("long", 3000);
  request.mutable_search()->set_n(8);
  auto reader = generator_->Generate(&context, request);
  EXPECT_TRUE(Eventually([this] { return engine_->stats().running_sequences == 9; }));
  context.TryCancel();
  EXPECT_TRUE(absl::IsCancelled(FromGrpc(reader->Finish())));
  EXPECT_TRUE(Eventually([this] { return engine_->stats().running_sequences == 1; }));
  grpc::ClientContext late;
  SetDeadline(late, 0.3);
  request.set_request_id("late");  // the first may not have ended yet, and holds its id until then
  const absl::Status ended = FromGrpc(generator_->Generate(&late, request)->Finish());
  EXPECT_TRUE(absl::IsDeadlineExceeded(ended)) << ended;
  EXPECT_TRUE(Eventually([this] { return engine_->stats().running_sequences == 1; }));
}

TEST_F(ServicesTest, TextPromptsAreTokenised) {
  v1::GenerateRequest by_text = Request("text", 8);
  by_text.set_prompt_text("12+3=");
  v1::GenerateRequest by_tokens = Request("tokens", 8);
  const std::vector<int32_t> ids = *text_.tokenizer->Encode("12+3=", /*add_special_tokens=*/false);
  by_tokens.mutable_prompt_tokens()->mutable_tokens()->Assign(ids.begin(), ids.end());
  const Streamed text = Generate(by_text), tokens = Generate(by_tokens);
  ASSERT_TRUE(text.status.ok()) << text.status;
  EXPECT_EQ(text.finished.at(0).tokens, tokens.finished.at(0).tokens);
}

TEST_F(ServicesTest, BadRequestsNameTheField) {
  v1::GenerateRequest no_prompt = Request("a", 5);
  no_prompt.clear_prompt();
  EXPECT_TRUE(absl::IsInvalidArgument(Generate(no_prompt).status));
  EXPECT_TRUE(absl::IsInvalidArgument(Generate(Request("b", 0)).status));
  EXPECT_TRUE(absl::IsInvalidArgument(Generate(Request("", 5)).status));
}

// Each is refused with its code and, where a field is at fault, by its name; a stream that is under
// way meanwhile loses nothing. Grammars and broken JSON are HTTP's alone; a broken message takes
// the latter's place.
TEST_F(ServicesTest, BadRequestsDisturbNoStream) {
  const Streamed expected = Generate(Request("expected", 2000));
  Brake brake(*engine_);
  auto other = std::async(std::launch::async, [this] { return Generate(Request("other", 2000)); });
  using Change = std::function<void(v1::GenerateRequest&)>;
  const auto thinking = [](const std::function<void(v1::Thinking&)>& change) {
    return [change](v1::GenerateRequest& r) { change(*r.mutable_sampling()->mutable_thinking()); };
  };
  const std::pair<std::string, Change> bad[] = {
      {"thinking.budget", thinking([](v1::Thinking& t) { t.set_budget(-5); })},
      {"thinking.budget", thinking([](v1::Thinking& t) { t.set_budget(100000); })},
      {"thinking.on_exhaust", thinking([](v1::Thinking& t) { t.set_on_exhaust("never"); })},
      {"thinking.effort", thinking([](v1::Thinking& t) { t.set_effort("much"); })},
      {"stop", [](v1::GenerateRequest& r) { r.mutable_sampling()->add_stop(""); }},
      {"stop",
       [](v1::GenerateRequest& r) {
         for (int i = 0; i < 65; ++i) r.mutable_sampling()->add_stop("x");
       }},
      {"stop_token_ids",
       [](v1::GenerateRequest& r) { r.mutable_sampling()->add_stop_token_ids(kVocab); }},
      {"prompt_tokens",
       [](v1::GenerateRequest& r) { r.mutable_prompt_tokens()->add_tokens(kVocab); }},
      {"prompt_tokens", [](v1::GenerateRequest& r) { r.mutable_prompt_tokens()->add_tokens(-1); }},
      {"prompt_text",
       [](v1::GenerateRequest& r) { r.set_prompt_text(std::string(10 << 20, 'a')); }},
      {"n", [](v1::GenerateRequest& r) { r.set_n(5000); }},
      {"search.method", [](v1::GenerateRequest& r) { r.mutable_search()->set_method("guess"); }},
      {"search.n", [](v1::GenerateRequest& r) { r.mutable_search()->set_n(0); }},
  };
  int number = 0;
  for (const auto& [field, change] : bad) {
    v1::GenerateRequest request = Request("bad-" + std::to_string(number++), 50);
    change(request);
    const absl::Status status = Generate(request).status;
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << field << " " << status;
    EXPECT_EQ(status.message().substr(0, field.size()), field) << status;
  }
  // What is no message of the contract: bytes that are none, and text that is not UTF-8 (field 4).
  v1::GenerateRequest request = Request("not-utf8", 5);
  request.clear_prompt();
  for (const std::string& bytes :
       {std::string("\xff\xff\xff"), request.SerializeAsString() + "\x22\x01\xff"}) {
    const absl::Status status = RawGenerate(bytes);
    // gRPC itself answers; which code, its releases do not agree on.
    EXPECT_TRUE(absl::IsInternal(status) || absl::IsUnimplemented(status)) << status;
  }
  brake.Release();
  const Streamed streamed = other.get();
  ASSERT_TRUE(streamed.status.ok()) << streamed.status;
  EXPECT_EQ(streamed.finished.at(0).tokens, expected.finished.at(0).tokens);
  EXPECT_EQ(streamed.chunk_tokens.at(0), expected.finished.at(0).tokens);
  EXPECT_TRUE(Generate(Request("after", 5)).status.ok());
}

// Trainer's side of the wire, with the generator's real announcer.
class PublishTest : public ServicesTest, public testing::WithParamInterface<std::string> {
 protected:
  void StartTrainer() {
    Publisher::Options options{.weights = {},
                               .identity = identity_,
                               .shared_memory_prefix = Prefix(),
                               .host_id = HostId()};
    options.weights.transport = GetParam();
    publisher_ = *Publisher::Create(options, trainer_metrics_);
    trainer_service_.emplace("trainer", identity_, "rl", *publisher_);
    trainer_.emplace(Loopback("trainer"), trainer_metrics_);
    trainer_->AddService(&*trainer_service_, v1::Trainer::service_full_name());
    ASSERT_TRUE(trainer_->Start().ok());
    announcer_ = std::make_unique<Announcer>(
        Announcer::Options{.trainer_address = trainer_->address(),
                           .generator_id = "generator-0",
                           .incarnation = MakeIncarnation(),
                           .own_address = runner_->address(),
                           .host_id = HostId(),
                           .identity = identity_},
        [this] { return engine_->stats().version; },
        [](const absl::Status& skew) { ADD_FAILURE() << skew; });
  }
  void TearDown() override {
    announcer_.reset();
    if (trainer_.has_value()) {
      EXPECT_EQ(trainer_->Shutdown(), 0);
    }
  }

  MetricsRegistry trainer_metrics_;
  std::unique_ptr<Publisher> publisher_;
  std::optional<TrainerService> trainer_service_;
  std::optional<ServiceRunner> trainer_;
  std::unique_ptr<Announcer> announcer_;
};

TEST_P(PublishTest, WeightsChangeInMidStreamAndTokensSayWhichSampledThem) {
  StartTrainer();
  Weights first = WeightsOf(2, 1), second = WeightsOf(3, 2);
  grpc::ClientContext context;
  SetDeadline(context, 240);
  Brake brake(*engine_);
  auto reader = generator_->Generate(&context, Request("long", 3500, 4));
  Streamed streamed;
  v1::GenerateEvent event;
  const auto all_sample_with = [&](int64_t version) {
    std::set<uint32_t> samples;
    while (samples.size() < 4 && reader->Read(&event)) {
      Take(event, streamed);
      if (event.has_chunk() && event.chunk().weight_version() == version) {
        samples.insert(event.chunk().sample_index());
      }
    }
    return samples.size() == 4;
  };
  ASSERT_TRUE(all_sample_with(0));
  ASSERT_TRUE(publisher_->Publish(first.manifest, first.payload).ok());
  ASSERT_TRUE(publisher_->WaitForReceiver(1, 60).ok());
  ASSERT_TRUE(all_sample_with(1));
  ASSERT_TRUE(publisher_->Publish(second.manifest, second.payload).ok());
  ASSERT_TRUE(publisher_->WaitForReceiver(2, 60).ok());
  brake.Release();
  while (reader->Read(&event)) Take(event, streamed);
  ASSERT_TRUE(FromGrpc(reader->Finish()).ok());
  EXPECT_EQ(engine_->stats().version, 2);
  for (int sample = 0; sample < 4; ++sample) {
    const Rollout& rollout = streamed.finished.at(sample);
    ASSERT_EQ(rollout.spans.size(), 3u) << "the stream ended before the weights came";
    for (int64_t version = 0; version < 3; ++version) {
      EXPECT_EQ(rollout.spans[static_cast<size_t>(version)].version, version);
    }
    EXPECT_EQ(streamed.chunk_tokens.at(sample), rollout.tokens);
  }
  EXPECT_EQ(publisher_->generator_versions().at("generator-0"), 2);
}

TEST_P(PublishTest, ALateJoinerGetsTheNewestVersion) {
  Weights weights = WeightsOf(2, 41);
  StartTrainer();
  announcer_.reset();  // away when it is published
  ASSERT_TRUE(publisher_->Publish(weights.manifest, weights.payload).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(publisher_->WaitForReceiver(41, 0.05)));
  publisher_->Announced({"generator-0", "second-start", runner_->address(), HostId()});
  EXPECT_TRUE(publisher_->WaitForReceiver(41, 20).ok());
  EXPECT_EQ(engine_->stats().version, 41);
}

TEST_P(PublishTest, ADeadGeneratorHoldsNobodyUp) {
  StartTrainer();
  publisher_->Announced({"generator-dead", "x", "127.0.0.1:1", HostId()});
  Weights weights = WeightsOf(2, 1);
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(publisher_->Publish(weights.manifest, weights.payload).ok());
  EXPECT_LT(SecondsSince(start), 10);
  EXPECT_TRUE(publisher_->WaitForReceiver(1, 20).ok());
  EXPECT_EQ(publisher_->generator_versions().at("generator-dead"), -1);
}

INSTANTIATE_TEST_SUITE_P(Transports, PublishTest, testing::Values("shared_memory", "tcp", "auto"));

TEST_F(ServicesTest, ACorruptPayloadIsRefusedAndTheOldWeightsGoOn) {
  const auto source = *MakeSharedMemorySource(Prefix());
  Weights weights = WeightsOf(2, 1);
  weights.payload[weights.payload.size() / 2] ^= 1;
  ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
  const absl::Status status = Prepare(FromSharedMemory(weights, source->Address()));
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_TRUE(absl::IsFailedPrecondition(Commit(1, 1)));
  const Streamed streamed = Generate(Request("after", 5));
  ASSERT_TRUE(streamed.status.ok()) << streamed.status;
  EXPECT_EQ(streamed.finished.at(0).spans, (std::vector<VersionSpan>{{0, 5}}));
}

TEST_F(ServicesTest, PreparingAndCommittingTwiceIsOnce) {
  const auto source = *MakeSharedMemorySource(Prefix());
  const Weights weights = WeightsOf(2, 1);
  ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
  const v1::PrepareWeightsRequest request = FromSharedMemory(weights, source->Address());
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(Prepare(request).ok());
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(Commit(1, 1).ok());
  EXPECT_TRUE(Prepare(request).ok());
  EXPECT_TRUE(Commit(1, 1).ok());
}

TEST_F(ServicesTest, AnOlderEpochIsFencedOff) {
  const auto source = *MakeSharedMemorySource(Prefix());
  const Weights newer = WeightsOf(2, 5, /*epoch=*/3), older = WeightsOf(3, 6, /*epoch=*/2);
  ASSERT_TRUE(source->Publish(newer.manifest, newer.payload.data()).ok());
  ASSERT_TRUE(Prepare(FromSharedMemory(newer, source->Address())).ok());
  ASSERT_TRUE(Commit(5, 3).ok());
  ASSERT_TRUE(source->Publish(older.manifest, older.payload.data()).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Prepare(FromSharedMemory(older, source->Address()))));
}

TEST_F(ServicesTest, AnotherRunOrTokenizerIsRefused) {
  v1::GenerateRequest request = Request("a", 5);
  request.mutable_handshake()->set_tokenizer_sha256("0123");
  const absl::Status status = Generate(request).status;
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(std::string(status.message()).find("'0123'"), std::string::npos);
  EXPECT_NE(std::string(status.message()).find(identity_.tokenizer_sha256), std::string::npos);
  v1::PrepareWeightsRequest prepare;
  *prepare.mutable_handshake() = MakeHandshake({.run_id = "run-2"});
  EXPECT_TRUE(absl::IsFailedPrecondition(Prepare(prepare)));
  request.mutable_handshake()->set_protocol_version(kProtocolVersion + 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(Generate(request).status));
}

TEST_F(ServicesTest, AReaderThatDoesNotReadStallsNobody) {
  grpc::ClientContext stalled_context;
  SetDeadline(stalled_context, 240);
  auto stalled = generator_->Generate(&stalled_context, Request("stalled", 3000, 8));
  for (int i = 0; i < 5; ++i) {
    const Streamed streamed = Generate(Request("quick-" + std::to_string(i), 50, 2));
    ASSERT_TRUE(streamed.status.ok()) << streamed.status;
    EXPECT_EQ(streamed.finished.size(), 2u);
  }
  Streamed late;  // and it has lost nothing
  v1::GenerateEvent event;
  while (stalled->Read(&event)) Take(event, late);
  EXPECT_TRUE(FromGrpc(stalled->Finish()).ok());
  ASSERT_EQ(late.finished.size(), 8u);
  for (const auto& [sample, rollout] : late.finished) {
    EXPECT_EQ(late.chunk_tokens.at(sample), rollout.tokens);
    EXPECT_EQ(rollout.tokens.size(), 3000u);
  }
}

TEST_F(ServicesTest, ACancelledStreamFreesItsSequences) {
  Brake brake(*engine_);
  grpc::ClientContext context;
  auto reader = generator_->Generate(&context, Request("cancelled", 4000, 16));
  v1::GenerateEvent event;
  ASSERT_TRUE(reader->Read(&event));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([this] { return engine_->stats().running_sequences == 1; }));  // the brake
  brake.Release();
  EXPECT_TRUE(Eventually([this] { return engine_->stats().running_sequences == 0; }));
  // And the id is free again, as soon as the engine has forgotten the request.
  EXPECT_TRUE(Eventually([this] { return Generate(Request("cancelled", 5)).status.ok(); }));
}

TEST_F(ServicesTest, ARefusedDuplicateLeavesTheFirstAlone) {
  grpc::ClientContext context;
  SetDeadline(context, 240);
  Brake brake(*engine_);
  auto first = generator_->Generate(&context, Request("same", 2000));
  v1::GenerateEvent event;
  ASSERT_TRUE(first->Read(&event));
  EXPECT_TRUE(absl::IsAlreadyExists(Generate(Request("same", 5)).status));
  brake.Release();
  Streamed streamed;
  Take(event, streamed);
  while (first->Read(&event)) Take(event, streamed);
  EXPECT_TRUE(first->Finish().ok());
  EXPECT_EQ(streamed.finished.at(0).tokens.size(), 2000u);
}

TEST_F(ServicesTest, HealthAnswersForTheProcessAndEachService) {
  const auto health = grpc::health::v1::Health::NewStub(MakeChannel(runner_->address()));
  for (const std::string& service : {std::string(), std::string("tramontane.v1.Generator"),
                                     std::string("tramontane.v1.Control")}) {
    grpc::ClientContext context;
    SetDeadline(context, 30);
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse reply;
    const absl::Status status = FromGrpc(health->Check(&context, request, &reply));
    ASSERT_TRUE(status.ok()) << service << ": " << status;
    EXPECT_EQ(reply.status(), grpc::health::v1::HealthCheckResponse::SERVING) << service;
  }
}

TEST_F(ServicesTest, ReflectionListsTheServices) {
  // ServerReflectionRequest{list_services: ""} by hand: the messages come with no library of ours.
  const grpc::Slice bytes("\x3a\x00", 2);
  grpc::ByteBuffer request(&bytes, 1), reply;
  grpc::GenericStub stub(MakeChannel(runner_->address()));
  grpc::ClientContext context;
  SetDeadline(context, 30);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  const auto next = [&] {
    void* tag;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  call->StartCall(nullptr);
  ASSERT_TRUE(next());
  call->Write(request, nullptr);
  ASSERT_TRUE(next());
  call->Read(&reply, nullptr);
  ASSERT_TRUE(next());
  grpc::Slice answer;
  ASSERT_TRUE(reply.DumpToSingleSlice(&answer).ok());
  const std::string text(reinterpret_cast<const char*>(answer.begin()), answer.size());
  EXPECT_NE(text.find("tramontane.v1.Generator"), std::string::npos);
  EXPECT_NE(text.find("tramontane.v1.Control"), std::string::npos);
  EXPECT_NE(text.find("grpc.health.v1.Health"), std::string::npos);
}

TEST_F(ServicesTest, StateTellsWhatTheEngineDoes) {
  v1::GeneratorState state;
  ASSERT_TRUE(Generate(Request("a", 10, 3)).status.ok());
  // The counts of a step are told after its tokens.
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    SetDeadline(context, 30);
    return generator_->GetState(&context, {}, &state).ok() && state.generated_tokens() >= 30;
  }));
  EXPECT_EQ(state.process().process(), "generator-0");
  EXPECT_EQ(state.generated_tokens(), 30u);
  EXPECT_EQ(state.kv_blocks_total(), 8192u);
}

}  // namespace
}  // namespace tramontane
