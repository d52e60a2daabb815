// Reads the fields of a JSON object one by one, with ranges. The first mistake is kept and reported
// by Finish(), as is a field that nobody asked for. null counts as absent. One thread.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

using OrderedJson = nlohmann::ordered_json;

class FieldReader {
 public:
  // `object` outlives the reader. `prefix`: what stands before a field's name in messages.
  FieldReader(const OrderedJson& object, std::string prefix);

  // What is absent leaves `out` as it is.
  void Read(const std::string& name, bool& out);
  void Read(const std::string& name, std::string& out);
  void Read(const std::string& name, int32_t& out, int64_t low, int64_t high);
  void Read(const std::string& name, int64_t& out, int64_t low, int64_t high);
  void Read(const std::string& name, double& out, double low, double high);
  void Read(const std::string& name, std::vector<int32_t>& out);
  // A text, or a list of texts.
  void ReadTexts(const std::string& name, std::vector<std::string>& out);
  // Whatever it is; null when absent.
  const OrderedJson* Find(const std::string& name);

  void Ignore(std::initializer_list<const char*> names);  // known, and without a meaning here
  // Known, but only this value can be had.
  void Only(const std::string& name, const OrderedJson& value);
  void Fail(const std::string& name, const std::string& message);
  void Fail(const absl::Status& status);

  absl::Status Finish() const;

 private:
  const OrderedJson& object_;
  const std::string prefix_;
  std::set<std::string> seen_;
  absl::Status status_;
};

// The ids of a list, as a prompt or a stop list has them. InvalidArgument.
absl::Status ReadTokenIds(const OrderedJson& list, const std::string& name,
                          std::vector<int32_t>& out);

// JSON text to a value: bounded in depth and keys, UTF-8 checked. InvalidArgument.
absl::StatusOr<OrderedJson> ParseBody(const std::string& body);

}  // namespace tramontane
