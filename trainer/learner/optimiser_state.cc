#include "trainer/learner/optimiser_state.h"

#include <ATen/ATen.h>

#include <bit>
#include <cstring>
#include <string_view>

#include "common/files.h"
#include "common/rollout.h"
#include "common/status.h"

namespace tramontane {
namespace {

static_assert(std::endian::native == std::endian::little, "moments are stored little-endian");

constexpr int kOptimiserFormat = 1;
const char* const kDescription = "/optimiser.json";
const char* const kFirstMoment = "/optimiser_first_moment.bin";
const char* const kSecondMoment = "/optimiser_second_moment.bin";

Json Describe(const NamedParameters& parameters) {
  Json list = Json::array();
  for (const auto& [name, tensor] : parameters)
    list.push_back({{"name", name}, {"shape", tensor.sizes().vec()}});
  return list;
}

absl::Status SaveTensor(const std::string& path, const at::Tensor& flat) {
  return WriteFileAtomic(path, {static_cast<const char*>(flat.const_data_ptr()), flat.nbytes()});
}

absl::StatusOr<at::Tensor> LoadTensor(const std::string& path, const at::Tensor& like) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, like.nbytes()));
  if (bytes.size() != like.nbytes()) {
    return absl::DataLossError(path + ": has " + std::to_string(bytes.size()) + " bytes, needs " +
                               std::to_string(like.nbytes()));
  }
  at::Tensor flat = at::empty_like(like);
  std::memcpy(flat.data_ptr(), bytes.data(), bytes.size());
  return flat;
}

absl::Status CheckParameters(const std::string& path, const Json& saved, const Json& expected) {
  if (saved.size() != expected.size()) {
    return absl::InvalidArgumentError(path + ": is for " + std::to_string(saved.size()) +
                                      " parameters, the model has " +
                                      std::to_string(expected.size()));
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    if (saved[i] != expected[i]) {
      return absl::InvalidArgumentError(path + ": holds " + saved[i].dump() +
                                        " where the model has " + expected[i].dump());
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SaveOptimiserState(const std::string& dir, const NamedParameters& parameters,
                                const AdamW& optimiser) {
  const Json description = {{"format_version", kOptimiserFormat},
                            {"updates", optimiser.updates()},
                            {"dtype", c10::toString(optimiser.first_moment().scalar_type())},
                            {"parameters", Describe(parameters)}};
  RETURN_IF_ERROR(SaveTensor(dir + kFirstMoment, optimiser.first_moment()));
  RETURN_IF_ERROR(SaveTensor(dir + kSecondMoment, optimiser.second_moment()));
  return WriteFileAtomic(dir + kDescription, description.dump(1));
}

absl::Status LoadOptimiserState(const std::string& dir, const NamedParameters& parameters,
                                AdamW& optimiser) {
  const std::string path = dir + kDescription;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, size_t{1} << 30));
  const Json saved = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!saved.is_object() || !saved.contains("parameters") || !saved["parameters"].is_array() ||
      saved.value("format_version", Json()) != kOptimiserFormat ||
      !saved.value("updates", Json()).is_number_integer()) {
    return absl::DataLossError(path + ": not an optimiser description of format 1");
  }
  RETURN_IF_ERROR(CheckParameters(path, saved["parameters"], Describe(parameters)));
  const std::string dtype = c10::toString(optimiser.first_moment().scalar_type());
  if (saved.value("dtype", Json()) != dtype)
    return absl::InvalidArgumentError(path + ": dtype is not " + dtype);
  ASSIGN_OR_RETURN(const at::Tensor first,
                   LoadTensor(dir + kFirstMoment, optimiser.first_moment()));
  ASSIGN_OR_RETURN(const at::Tensor second,
                   LoadTensor(dir + kSecondMoment, optimiser.second_moment()));
  return optimiser.Restore(first, second, saved["updates"].get<int64_t>());
}

}  // namespace tramontane
