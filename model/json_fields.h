// Typed reading of a config.json's keys. Torch-free.
#pragma once

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace tramontane {

inline absl::Status BadConfig(const std::string& field, const std::string& what) {
  return absl::InvalidArgumentError("config.json: " + field + ": " + what);
}

// Keys that are absent or null fall back; of a wrong type, they are remembered as the error.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string prefix)
      : object_(object), prefix_(std::move(prefix)) {}

  bool Has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }

  int64_t Int(const char* key, int64_t fallback, int64_t least, int64_t most) {
    if (!Has(key)) return fallback;
    const nlohmann::json& value = object_[key];
    if (!value.is_number_integer()) return Fail(key, "must be an integer"), fallback;
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(most)) {
      return Fail(key, "is too large"), fallback;
    }
    const int64_t n = value.get<int64_t>();
    if (n < least || n > most) {
      Fail(key, "must be between " + std::to_string(least) + " and " + std::to_string(most));
      return fallback;
    }
    return n;
  }
  int64_t RequiredInt(const char* key, int64_t least, int64_t most) {
    if (!Has(key)) Fail(key, "missing");
    return Int(key, least, least, most);
  }
  double Number(const char* key, double fallback) {
    if (!Has(key)) return fallback;
    if (!object_[key].is_number()) return Fail(key, "must be a number"), fallback;
    const double x = object_[key].get<double>();
    if (!std::isfinite(x)) return Fail(key, "must be finite"), fallback;
    return x;
  }
  double RequiredNumber(const char* key) {
    if (!Has(key)) Fail(key, "missing");
    return Number(key, 1);
  }
  std::optional<double> MaybeNumber(const char* key) {
    return Has(key) ? std::optional<double>(Number(key, 0)) : std::nullopt;
  }
  bool Bool(const char* key, bool fallback) {
    if (!Has(key)) return fallback;
    if (!object_[key].is_boolean()) return Fail(key, "must be true or false"), fallback;
    return object_[key].get<bool>();
  }
  std::string String(const char* key, const std::string& fallback) {
    if (!Has(key)) return fallback;
    if (!object_[key].is_string()) return Fail(key, "must be a string"), fallback;
    return object_[key].get<std::string>();
  }

  void Fail(const std::string& key, const std::string& what) {
    if (status_.ok()) status_ = BadConfig(prefix_ + key, what);
  }
  const absl::Status& status() const { return status_; }

 private:
  const nlohmann::json& object_;
  std::string prefix_;
  absl::Status status_;
};

}  // namespace tramontane
