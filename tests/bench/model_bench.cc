// Prints tokens per second of the transformer alone: forward and backward over packed sequences,
// and decode steps. Usage: model_bench [train|decode|both] [train_tokens=12032] [segment_tokens=47]
// [layers=4] [hidden=128]
#include <malloc.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "model/ops/logprob.h"
#include "model/ops/paged_attention.h"
#include "model/packed_attention.h"
#include "model/transformer.h"

namespace {

using namespace tramontane;  // NOLINT: a program, not a library

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ModelConfig BenchConfig(int64_t layers, int64_t hidden) {
  nlohmann::json json = {{"model_type", "qwen3"},
                         {"vocab_size", 264},
                         {"hidden_size", hidden},
                         {"intermediate_size", 3 * hidden},
                         {"num_hidden_layers", layers},
                         {"num_attention_heads", hidden / 32},
                         {"num_key_value_heads", hidden / 64},
                         {"head_dim", 32},
                         {"max_position_embeddings", 4096},
                         {"tie_word_embeddings", true}};
  return *ParseModelConfig(json);
}

struct Microbatch {
  std::vector<int64_t> offsets;
  at::Tensor tokens, positions;
};

Microbatch Pack(int64_t tokens, int64_t segment) {
  Microbatch m{{0}, at::randint(264, {tokens}, at::kLong), at::empty({tokens}, at::kLong)};
  for (int64_t t = 0; t < tokens; ++t) m.positions.mutable_data_ptr<int64_t>()[t] = t % segment;
  for (int64_t t = segment; t < tokens; t += segment) m.offsets.push_back(t);
  m.offsets.push_back(tokens);
  return m;
}

void ForwardBackward(Transformer& model, const std::vector<at::Tensor>& parameters, int64_t tokens,
                     int64_t segment) {
  const Microbatch m = Pack(tokens, segment);
  PackedAttention attention(m.offsets);
  const at::Tensor hidden = model.Forward(m.tokens, m.positions, attention);
  const LogprobResult r = ChunkedLogprob(hidden, model.lm_head_weight(), m.tokens, 1.0, true);
  const auto grads = torch::autograd::grad({r.logprob.sum()}, parameters);
  if (!grads[0].defined()) std::abort();
}

void BenchTraining(Transformer& model, int64_t total, int64_t segment) {
  std::vector<at::Tensor> parameters;
  for (auto& [name, tensor] : model.NamedWeights()) parameters.push_back(tensor);
  for (int64_t micro : {1024, 2048, 4096, 12288}) {
    for (int threads : {1, 2}) {
      const auto pass = [&] {
        std::vector<std::thread> workers;
        for (int w = 0; w < threads; ++w) {
          workers.emplace_back([&, w] {
            at::set_num_threads(1);
            const int64_t mine = total / threads;
            for (int64_t done = 0; done < mine; done += micro) {
              ForwardBackward(model, parameters, std::min(micro, mine - done), segment);
            }
            (void)w;
          });
        }
        for (auto& worker : workers) worker.join();
      };
      pass();
      double best = 1e9;
      for (int i = 0; i < 4; ++i) {
        const double start = Seconds();
        pass();
        best = std::min(best, Seconds() - start);
      }
      std::printf(
          "train  micro %6ld threads %d: %7.1f ms for %ld tokens, %8.0f tok/s, %.3f core-s\n",
          micro, threads, best * 1e3, total, static_cast<double>(total) / best, best * threads);
    }
  }
}

class BenchPaged final : public Attention {
 public:
  BenchPaged(const ModelConfig& config, int64_t blocks, const PagedBatch& batch, int threads)
      : batch_(batch), threads_(threads) {
    for (int64_t l = 0; l < config.num_layers; ++l) {
      k_.push_back(at::zeros(KeyCacheShape(blocks, config.num_kv_heads, config.head_dim, 16)));
      v_.push_back(at::zeros(ValueCacheShape(blocks, config.num_kv_heads, config.head_dim, 16)));
    }
  }
  at::Tensor Run(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 double scale, int64_t window) override {
    at::Tensor out = at::empty(q.sizes(), q.options());
    PagedAttentionCpu(q, k, v, k_[layer], v_[layer], batch_, scale, window, out, threads_);
    return out;
  }

 private:
  const PagedBatch& batch_;
  int threads_;
  std::vector<at::Tensor> k_, v_;
};

void BenchDecode(Transformer& model, int64_t context) {
  at::NoGradGuard no_grad;
  for (int64_t rows : {1, 16, 64, 128}) {
    for (int threads : {1, 2}) {
      at::set_num_threads(threads);
      PagedBatch batch;
      const int64_t blocks = context / 16 + 1;
      for (int64_t r = 0; r < rows; ++r) {
        batch.sequences.push_back(
            {static_cast<int32_t>(r), 1, context, static_cast<int32_t>(r * blocks)});
        for (int64_t b = 0; b < blocks; ++b)
          batch.block_tables.push_back(static_cast<int32_t>(r * blocks + b));
      }
      BenchPaged attention(model.config(), rows * blocks, batch, threads);
      const at::Tensor tokens = at::randint(264, {rows}, at::kLong);
      const at::Tensor positions = at::full({rows}, context, at::kLong);
      const auto step = [&] { model.Logits(model.Forward(tokens, positions, attention)); };
      for (int i = 0; i < 50; ++i) step();
      const int steps = 400;
      const double start = Seconds();
      for (int i = 0; i < steps; ++i) step();
      const double each = (Seconds() - start) / steps;
      std::printf("decode rows %4ld context %4ld threads %d: %7.3f ms, %8.0f tok/s\n", rows,
                  context, threads, each * 1e3, static_cast<double>(rows) / each);
    }
  }
}

int64_t Argument(int argc, char** argv, int index, int64_t fallback) {
  return argc > index ? std::atoll(argv[index]) : fallback;
}

}  // namespace

int main(int argc, char** argv) {
  // Large activations come back from the heap instead of fresh pages.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  Transformer model(BenchConfig(Argument(argc, argv, 4, 4), Argument(argc, argv, 5, 128)));
  model.InitRandom(1);
  const std::string what = argc > 1 ? argv[1] : "both";
  if (what != "train") BenchDecode(model, 40);
  if (what != "decode")
    BenchTraining(model, Argument(argc, argv, 2, 12032), Argument(argc, argv, 3, 47));
}
