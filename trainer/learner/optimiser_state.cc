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

absl::StatusOr<at::Tensor> LoadTensor(const std::string& path, int64_t elements,
                                      at::ScalarType dtype) {
  at::Tensor flat = at::empty({elements}, dtype);
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, flat.nbytes()));
  if (bytes.size() != flat.nbytes()) {
    return absl::DataLossError(path + ": has " + std::to_string(bytes.size()) + " bytes, needs " +
                               std::to_string(flat.nbytes()));
  }
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

std::vector<at::Tensor> TensorsOf(const NamedParameters& parameters) {
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : parameters) tensors.push_back(tensor);
  return tensors;
}

absl::Status SaveOptimiserState(const std::string& dir, const NamedParameters& parameters,
                                const OptimiserState& state) {
  const Json description = {{"format_version", kOptimiserFormat},
                            {"updates", state.updates},
                            {"dtype", c10::toString(state.first.scalar_type())},
                            {"parameters", Describe(parameters)}};
  RETURN_IF_ERROR(SaveTensor(dir + kFirstMoment, state.first));
  RETURN_IF_ERROR(SaveTensor(dir + kSecondMoment, state.second));
  return WriteFileAtomic(dir + kDescription, description.dump(1));
}

absl::StatusOr<OptimiserState> LoadOptimiserState(const std::string& dir,
                                                  const NamedParameters& parameters) {
  const std::string path = dir + kDescription;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, size_t{1} << 30));
  const Json saved = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!saved.is_object() || !saved.contains("parameters") || !saved["parameters"].is_array() ||
      saved.value("format_version", Json()) != kOptimiserFormat ||
      !saved.value("updates", Json()).is_number_integer()) {
    return absl::DataLossError(path + ": not an optimiser description of format 1");
  }
  RETURN_IF_ERROR(CheckParameters(path, saved["parameters"], Describe(parameters)));
  const at::ScalarType dtype = parameters.front().second.scalar_type();
  if (saved.value("dtype", Json()) != c10::toString(dtype))
    return absl::InvalidArgumentError(path + ": dtype is not " + c10::toString(dtype));
  int64_t elements = 0;
  for (const auto& [name, tensor] : parameters) elements += tensor.numel();
  OptimiserState state;
  state.updates = saved["updates"].get<int64_t>();
  if (state.updates < 0) return absl::DataLossError(path + ": a negative number of updates");
  ASSIGN_OR_RETURN(state.first, LoadTensor(dir + kFirstMoment, elements, dtype));
  ASSIGN_OR_RETURN(state.second, LoadTensor(dir + kSecondMoment, elements, dtype));
  return state;
}

}  // namespace tramontane
