#include "tests/unit/generator/engine_fixture.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/packed_attention.h"

namespace tramontane {
namespace {

constexpr std::chrono::seconds kPatience{60};

std::string Utf8(uint32_t code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

// A byte-level tokenizer without merges, in the usual printable alphabet of byte-level BPE.
nlohmann::json ByteTokenizerJson() {
  nlohmann::json vocab = nlohmann::json::object();
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
                           (byte >= 0xAE && byte <= 0xFF);
    vocab[Utf8(printable ? byte : next++)] = byte;
  }
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", false}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           {{{"id", kEndToken},
             {"content", "<|end|>"},
             {"single_word", false},
             {"lstrip", false},
             {"rstrip", false},
             {"normalized", false},
             {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocab},
            {"merges", nlohmann::json::array()}}}};
}

nlohmann::json FallbackTokenizerJson() {
  nlohmann::json json = ByteTokenizerJson();
  nlohmann::json& vocab = json["model"]["vocab"] = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    vocab[name] = byte;
  }
  json["model"]["byte_fallback"] = true;
  json["pre_tokenizer"] = nullptr;
  json["decoder"] = nlohmann::json::parse(
      R"({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})");
  return json;
}

}  // namespace

std::shared_ptr<Transformer> TinyModel(uint64_t seed, double spread) {
  ModelConfig config;
  config.family = "qwen3";
  config.vocab_size = 264;
  config.hidden_size = 32;
  config.num_layers = 2;
  config.num_heads = 4;
  config.head_dim = 8;
  config.max_position_embeddings = 512;
  config.tie_word_embeddings = true;
  config.qk_norm = true;
  config.layers.assign(2, {.kv_heads = 2, .mlp_width = 64});
  config.eos_token_ids = {kEndToken};
  config.initializer_range = spread;
  auto model = std::make_shared<Transformer>(config);
  model->InitRandom(seed);
  return model;
}

std::shared_ptr<Transformer> TinyMixture(uint64_t seed) {
  const auto config = ParseModelConfig({{"model_type", "mixtral"},
                                        {"vocab_size", 264},
                                        {"hidden_size", 32},
                                        {"intermediate_size", 24},
                                        {"num_hidden_layers", 2},
                                        {"num_attention_heads", 4},
                                        {"num_key_value_heads", 2},
                                        {"num_local_experts", 4},
                                        {"num_experts_per_tok", 2}});
  EXPECT_TRUE(config.ok()) << config.status();
  auto mixture = std::make_shared<Transformer>(*config);
  mixture->InitRandom(seed);
  return mixture;
}

std::shared_ptr<const Tokenizer> ByteTokenizer(bool fallback) {
  std::string dir = (std::filesystem::temp_directory_path() / "tokenizer_XXXXXX").string();
  if (::mkdtemp(dir.data()) == nullptr) return nullptr;
  std::ofstream(dir + "/tokenizer.json") << (fallback ? FallbackTokenizerJson() : ByteTokenizerJson()).dump();
  auto tokenizer = Tokenizer::Load(dir);
  std::filesystem::remove_all(dir);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

SampleRequest Collector::Request(const std::string& id, std::vector<int32_t> prompt,
                                 const SamplingParams& sampling, int32_t n, bool stream) {
  SampleRequest request;
  request.id = id;
  request.prompt_tokens = std::move(prompt);
  request.sampling = sampling;
  request.n = n;
  if (stream) {
    request.on_chunk = [this, id](TokenChunk chunk) {
      std::unique_lock lock(mutex_);
      streamed_ += chunk.tokens.size();
      chunks_[id].push_back(std::move(chunk));
      changed_.notify_all();
      changed_.wait_for(lock, kPatience, [this] { return streamed_ < allowed_; });
    };
  }
  request.on_finished = [this, id](Rollout rollout) {
    std::lock_guard lock(mutex_);
    const int32_t sample = rollout.sample_index;
    EXPECT_TRUE(rollouts_[id].emplace(sample, std::move(rollout)).second);
    ++finished_;
    changed_.notify_all();
  };
  return request;
}

bool Collector::WaitFinished(size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return finished_ >= count; });
}

void Collector::AllowStreamed(size_t count) {
  std::lock_guard lock(mutex_);
  allowed_ = count;
  changed_.notify_all();
}

bool Collector::WaitStreamed(size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return streamed_ >= count; });
}

std::map<int32_t, Rollout> Collector::rollouts(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto found = rollouts_.find(id);
  return found == rollouts_.end() ? std::map<int32_t, Rollout>() : found->second;
}

std::vector<TokenChunk> Collector::chunks(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto found = chunks_.find(id);
  return found == chunks_.end() ? std::vector<TokenChunk>() : found->second;
}

std::vector<Rollout> RunEach(Engine& engine, Collector& collector,
                             std::vector<SampleRequest> requests, EngineStats* stats) {
  const size_t count = requests.size();
  for (SampleRequest& request : requests) {
    const absl::Status status = engine.Submit(std::move(request));
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_TRUE(collector.WaitFinished(count));
  if (stats != nullptr) *stats = engine.stats();
  std::vector<Rollout> rollouts;
  for (size_t i = 0; i < count; ++i)
    rollouts.push_back(collector.rollouts(std::to_string(i)).at(0));
  return rollouts;
}

std::vector<std::map<int32_t, Rollout>> RunAll(const EngineOptions& options,
                                               const std::shared_ptr<Transformer>& model,
                                               const std::vector<Ask>& asks, EngineStats* stats) {
  MetricsRegistry metrics;
  Collector collector;
  auto engine = Engine::Create(options, model, nullptr, metrics);
  EXPECT_TRUE(engine.ok()) << engine.status();
  std::vector<std::map<int32_t, Rollout>> results;
  if (!engine.ok()) return results;
  size_t samples = 0;
  for (size_t i = 0; i < asks.size(); ++i) {
    const absl::Status status = (*engine)->Submit(
        collector.Request(std::to_string(i), asks[i].prompt, asks[i].sampling, asks[i].n));
    EXPECT_TRUE(status.ok()) << status;
    samples += asks[i].n;
  }
  EXPECT_TRUE(collector.WaitFinished(samples));
  if (stats != nullptr) *stats = (*engine)->stats();
  engine->reset();
  for (size_t i = 0; i < asks.size(); ++i) results.push_back(collector.rollouts(std::to_string(i)));
  return results;
}

std::vector<float> FullForward(Transformer& model, const std::vector<int32_t>& tokens) {
  const c10::InferenceMode inference;
  const int64_t size = static_cast<int64_t>(tokens.size());
  PackedAttention attention({0, size});
  const at::Tensor hidden_TD =
      model.Forward(at::tensor(tokens, at::kLong), at::arange(size, at::kLong), attention);
  const at::Tensor row =
      model.Logits(hidden_TD.narrow(0, size - 1, 1)).log_softmax(-1).contiguous();
  return {row.const_data_ptr<float>(), row.const_data_ptr<float>() + row.numel()};
}

at::Tensor GrowingAttention::Run(int64_t layer, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                                 const at::Tensor& v_TKD, double scale, int64_t window_tokens) {
  EXPECT_EQ(window_tokens, 0);
  if (static_cast<size_t>(layer) == keys_.size()) {
    keys_.push_back(k_TKD.clone());
    values_.push_back(v_TKD.clone());
  } else {
    keys_[layer] = at::cat({keys_[layer], k_TKD});
    values_[layer] = at::cat({values_[layer], v_TKD});
  }
  const int64_t group = q_THD.size(1) / k_TKD.size(1);
  const at::Tensor k_HSD = keys_[layer].repeat_interleave(group, 1).transpose(0, 1);
  const at::Tensor v_HSD = values_[layer].repeat_interleave(group, 1).transpose(0, 1);
  at::Tensor scores_HTS = at::matmul(q_THD.transpose(0, 1), k_HSD.transpose(1, 2)) * scale;
  const int64_t old = k_HSD.size(1) - q_THD.size(0);
  const at::Tensor future_TS = at::ones({q_THD.size(0), k_HSD.size(1)}, at::kBool).triu(old + 1);
  scores_HTS = scores_HTS.masked_fill(future_TS, -std::numeric_limits<double>::infinity());
  return at::matmul(scores_HTS.softmax(-1), v_HSD).transpose(0, 1).contiguous();
}

}  // namespace tramontane
