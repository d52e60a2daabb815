#include "model/model_dir.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "common/files.h"
#include "common/status.h"
#include "model/checkpoint.h"
#include "model/length_predictor.h"
#include "model/transformer.h"

namespace tramontane {

absl::StatusOr<std::shared_ptr<Transformer>> LoadModelDir(const std::string& model_dir) {
  return LoadTransformer(model_dir);
}

absl::StatusOr<std::shared_ptr<const LengthPredictor>> FindLengthPredictor(
    const std::string& model_dir) {
  ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(model_dir));
  auto loaded = LengthPredictor::Load(model_dir, config);
  if (absl::IsNotFound(loaded.status())) return nullptr;
  RETURN_IF_ERROR(loaded.status());
  return std::shared_ptr<const LengthPredictor>(*std::move(loaded));
}

absl::Status SaveModelDir(const Transformer& model, const std::string& tokenizer_source_dir,
                          const std::string& out_dir,
                          const std::function<absl::Status(const std::string& dir)>& add) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(out_dir, error)) return absl::AlreadyExistsError(out_dir + " exists");
  const std::string temporary = out_dir + ".tmp";
  fs::remove_all(temporary, error);  // what an interrupted attempt left
  RETURN_IF_ERROR(MakeDirs(temporary));
  absl::Status status = SaveTransformer(model, tokenizer_source_dir, temporary);
  if (status.ok() && add) status = add(temporary);
  if (status.ok()) status = FsyncDir(temporary);
  if (status.ok() && std::rename(temporary.c_str(), out_dir.c_str()) != 0) {
    status = ErrnoStatus(errno, "rename to " + out_dir);
  }
  if (!status.ok()) {
    fs::remove_all(temporary, error);
    return status;
  }
  return FsyncDir(fs::path(out_dir).parent_path().string());
}

}  // namespace tramontane
