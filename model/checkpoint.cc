#include "model/checkpoint.h"

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <set>

#include "common/files.h"
#include "common/status.h"
#include "model/safetensors.h"

namespace tramontane {

namespace {

using Json = nlohmann::json;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
// Copied beside the weights; config.json is written from the model.
constexpr const char* kSideFiles[] = {"tokenizer.json",          "tokenizer_config.json",
                                      "chat_template.jinja",     "generation_config.json",
                                      "special_tokens_map.json", "tekken.json"};

at::ScalarType TypeOf(const std::string& dtype) {
  if (dtype == "F64") return at::kDouble;
  if (dtype == "F16") return at::kHalf;
  if (dtype == "BF16") return at::kBFloat16;
  return at::kFloat;
}

absl::StatusOr<std::string> SafetensorsName(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return "F64";
    case at::kFloat:
      return "F32";
    case at::kHalf:
      return "F16";
    case at::kBFloat16:
      return "BF16";
    default:
      return absl::InvalidArgumentError("model dtype cannot be saved");
  }
}

// Tensor name -> open file that holds it.
struct Shards {
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::map<std::string, const SafetensorsFile*> holder;
};

absl::Status AddFile(const std::string& path, Shards& shards) {
  ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file, SafetensorsFile::Open(path));
  for (const auto& [name, entry] : file->header().tensors) {
    if (!shards.holder.emplace(name, file.get()).second) {
      return absl::DataLossError(path + ": tensor '" + name + "' is in another shard too");
    }
  }
  shards.files.push_back(std::move(file));
  return absl::OkStatus();
}

// A shard's name is a file in the same folder, nothing else.
bool IsPlainName(const std::string& name) {
  return !name.empty() && name.find('/') == std::string::npos && name != "." && name != "..";
}

absl::StatusOr<Shards> OpenShards(const std::string& model_dir) {
  Shards shards;
  const std::string index_path = model_dir + "/" + kIndexFile;
  const absl::StatusOr<std::string> text = ReadFile(index_path, kMostSafetensorsHeaderBytes);
  if (absl::IsNotFound(text.status())) {
    RETURN_IF_ERROR(AddFile(model_dir + "/" + kSingleFile, shards));
    return shards;
  }
  RETURN_IF_ERROR(text.status());
  const Json index = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return absl::DataLossError(index_path + ": no weight_map");
  }
  std::set<std::string> names;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string() || !IsPlainName(shard.get<std::string>())) {
      return absl::DataLossError(index_path + ": tensor '" + tensor + "' has no proper shard");
    }
    names.insert(shard.get<std::string>());
  }
  for (const std::string& name : names) {
    RETURN_IF_ERROR(Annotate(AddFile(model_dir + "/" + name, shards), kIndexFile));
  }
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shards.holder.contains(tensor)) {
      return absl::DataLossError(model_dir + "/" + shard.get<std::string>() + ": tensor '" +
                                 tensor + "' is missing, though the index names it");
    }
  }
  return shards;
}

absl::Status CopyTensor(const std::string& where, const std::string& name, const Shards& shards,
                        at::Tensor to) {
  const auto holder = shards.holder.find(name);
  if (holder == shards.holder.end()) {
    return absl::NotFoundError(where + ": tensor '" + name + "' is missing");
  }
  const SafetensorsEntry& entry = holder->second->header().tensors.at(name);
  if (at::IntArrayRef(entry.shape) != to.sizes()) {
    const auto text = [](at::IntArrayRef shape) {
      std::string s = "[";
      for (int64_t n : shape) s += (s.size() > 1 ? ", " : "") + std::to_string(n);
      return s + "]";
    };
    return absl::DataLossError(where + ": tensor '" + name + "' has shape " + text(entry.shape) +
                               ", the config needs " + text(to.sizes()));
  }
  // Borrowed read-only memory: only ever the source of a copy. Data sections need not be aligned to
  // the element, so unaligned ones go through a buffer.
  const auto type = TypeOf(entry.dtype);
  const void* data = holder->second->Data(entry);
  at::Tensor source;
  if (reinterpret_cast<uintptr_t>(data) % SafetensorsElementBytes(entry.dtype) == 0) {
    source = at::from_blob(const_cast<void*>(data), entry.shape, at::TensorOptions().dtype(type));
  } else {
    source = at::empty(entry.shape, at::TensorOptions().dtype(type));
    std::memcpy(source.mutable_data_ptr(), data, entry.size_bytes);
  }
  to.copy_(source);
  return absl::OkStatus();
}

// Buffers that old checkpoints carry and no model reads, and the head of a tied model.
bool IsIgnorable(const std::string& name, const ModelConfig& config) {
  return name.find("rotary_emb.inv_freq") != std::string::npos ||
         (config.tie_word_embeddings && name == "lm_head.weight");
}

absl::Status LoadWeights(const std::string& model_dir, Transformer& model) {
  at::NoGradGuard no_grad;
  ASSIGN_OR_RETURN(const Shards shards, OpenShards(model_dir));
  std::set<std::string> expected;
  for (const auto& [name, tensor] : model.NamedWeights()) {
    expected.insert(name);
    RETURN_IF_ERROR(CopyTensor(model_dir, name, shards, tensor));
  }
  for (const auto& [name, file] : shards.holder) {
    if (!expected.contains(name) && !IsIgnorable(name, model.config())) {
      return absl::DataLossError(model_dir + ": tensor '" + name + "' does not belong to a " +
                                 model.config().family + " model of this config");
    }
  }
  return absl::OkStatus();
}

struct ShardPlan {
  std::vector<SafetensorsTensor> tensors;
  int64_t bytes = 0;
};

std::string ShardName(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

absl::Status WriteShards(const std::vector<ShardPlan>& shards, const std::string& out_dir) {
  if (shards.size() == 1) return WriteSafetensors(out_dir + "/" + kSingleFile, shards[0].tensors);
  Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  int64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = ShardName(i, shards.size());
    RETURN_IF_ERROR(WriteSafetensors(out_dir + "/" + name, shards[i].tensors));
    for (const SafetensorsTensor& tensor : shards[i].tensors)
      index["weight_map"][tensor.name] = name;
    total += shards[i].bytes;
  }
  index["metadata"]["total_size"] = total;
  return WriteFileAtomic(out_dir + "/" + kIndexFile, index.dump(2) + "\n");
}

}  // namespace

absl::StatusOr<std::shared_ptr<Transformer>> LoadTransformer(const std::string& model_dir,
                                                             at::Device device,
                                                             at::ScalarType dtype) {
  ASSIGN_OR_RETURN(ModelConfig config, LoadModelConfig(model_dir));
  try {
    auto model = std::make_shared<Transformer>(std::move(config), device, dtype);
    RETURN_IF_ERROR(LoadWeights(model_dir, *model));
    return model;
  } catch (const std::exception& error) {
    return absl::InternalError(model_dir + ": " + error.what());
  }
}

absl::Status SaveTransformer(const Transformer& model, const std::string& source_dir,
                             const std::string& out_dir, int64_t max_shard_bytes) {
  if (max_shard_bytes <= 0) return absl::InvalidArgumentError("max_shard_bytes must be positive");
  try {
    std::vector<at::Tensor> alive;  // what the plans point into
    std::vector<ShardPlan> shards(1);
    for (const auto& [name, tensor] : model.NamedWeights()) {
      const at::Tensor t = tensor.detach().to(at::kCPU).contiguous();
      ASSIGN_OR_RETURN(const std::string dtype, SafetensorsName(t.scalar_type()));
      const int64_t bytes = static_cast<int64_t>(t.nbytes());
      if (!shards.back().tensors.empty() && shards.back().bytes + bytes > max_shard_bytes)
        shards.emplace_back();
      shards.back().tensors.push_back(
          {name, dtype, t.sizes().vec(), t.const_data_ptr(), t.nbytes()});
      shards.back().bytes += bytes;
      alive.push_back(t);
    }
    RETURN_IF_ERROR(WriteShards(shards, out_dir));
  } catch (const std::exception& error) {
    return absl::InternalError(out_dir + ": " + error.what());
  }
  RETURN_IF_ERROR(WriteFileAtomic(out_dir + "/config.json", model.config().source.dump(2) + "\n"));
  for (const char* name : kSideFiles) {
    const absl::StatusOr<std::string> bytes = ReadFile(source_dir + "/" + name);
    if (absl::IsNotFound(bytes.status())) continue;
    RETURN_IF_ERROR(bytes.status());
    RETURN_IF_ERROR(WriteFileAtomic(out_dir + "/" + name, *bytes));
  }
  return absl::OkStatus();
}

}  // namespace tramontane
