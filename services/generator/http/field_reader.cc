#include "services/generator/http/field_reader.h"

#include <algorithm>

#include "common/status.h"
#include "services/generator/http/api_error.h"
#include "text/utf8.h"

namespace tramontane {
namespace {

std::string Range(const std::string& low, const std::string& high) {
  return "from " + low + " to " + high;
}

// Deeper than any request or schema; what follows walks values recursively.
constexpr size_t kMaxDepth = 128;
// An object that keeps its order is searched from its begin for every key that is added.
constexpr int kMaxKeys = 4096;

// Counts brackets and colons outside of strings; good enough for text that may not even be JSON.
absl::Status CheckSize(const std::string& body) {
  std::vector<int> keys;  // of each object or list that is open
  bool in_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      keys.push_back(0);
      if (keys.size() > kMaxDepth) {
        return absl::InvalidArgumentError("the body is nested deeper than " +
                                          std::to_string(kMaxDepth));
      }
    } else if ((c == '}' || c == ']') && !keys.empty()) {
      keys.pop_back();
    } else if (c == ':' && !keys.empty() && ++keys.back() > kMaxKeys) {
      return absl::InvalidArgumentError("an object in the body has more than " +
                                        std::to_string(kMaxKeys) + " keys");
    }
  }
  return absl::OkStatus();
}

}  // namespace

FieldReader::FieldReader(const OrderedJson& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

const OrderedJson* FieldReader::Find(const std::string& name) {
  seen_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void FieldReader::Fail(const std::string& name, const std::string& message) {
  if (status_.ok()) status_ = BadField(prefix_ + name, message);
}

void FieldReader::Fail(const absl::Status& status) {
  if (status_.ok()) status_ = status;
}

void FieldReader::Read(const std::string& name, bool& out) {
  const OrderedJson* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return Fail(name, "must be true or false");
  out = value->get<bool>();
}

void FieldReader::Read(const std::string& name, std::string& out) {
  const OrderedJson* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_string()) return Fail(name, "must be a text");
  out = value->get<std::string>();
}

void FieldReader::Read(const std::string& name, int32_t& out, int64_t low, int64_t high) {
  int64_t wide = out;
  Read(name, wide, low, high);
  out = static_cast<int32_t>(wide);
}

void FieldReader::Read(const std::string& name, int64_t& out, int64_t low, int64_t high) {
  const OrderedJson* value = Find(name);
  if (value == nullptr) return;
  const bool fits = value->is_number_integer() &&
                    (!value->is_number_unsigned() || value->get<uint64_t>() <= INT64_MAX);
  if (!fits || value->get<int64_t>() < low || value->get<int64_t>() > high) {
    return Fail(name, "must be an integer " + Range(std::to_string(low), std::to_string(high)));
  }
  out = value->get<int64_t>();
}

void FieldReader::Read(const std::string& name, double& out, double low, double high) {
  const OrderedJson* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
    return Fail(name,
                "must be a number " + Range(OrderedJson(low).dump(), OrderedJson(high).dump()));
  }
  out = value->get<double>();
}

void FieldReader::Read(const std::string& name, std::vector<int32_t>& out) {
  const OrderedJson* value = Find(name);
  if (value != nullptr) Fail(ReadTokenIds(*value, prefix_ + name, out));
}

void FieldReader::ReadTexts(const std::string& name, std::vector<std::string>& out) {
  const OrderedJson* value = Find(name);
  if (value == nullptr) return;
  out.clear();
  if (value->is_string()) return out.push_back(value->get<std::string>());
  const bool texts = value->is_array() && std::all_of(value->begin(), value->end(),
                                                      [](const auto& t) { return t.is_string(); });
  if (!texts) return Fail(name, "must be a text or a list of texts");
  for (const OrderedJson& text : *value) out.push_back(text.get<std::string>());
}

void FieldReader::Ignore(std::initializer_list<const char*> names) {
  seen_.insert(names.begin(), names.end());
}

void FieldReader::Only(const std::string& name, const OrderedJson& only) {
  const OrderedJson* value = Find(name);
  if (value != nullptr && *value != only) Fail(name, "can only be " + only.dump() + " here");
}

absl::Status FieldReader::Finish() const {
  if (!status_.ok()) return status_;
  for (const auto& [name, value] : object_.items()) {
    if (!seen_.contains(name)) return BadField(prefix_ + name, "is not a known field");
  }
  return absl::OkStatus();
}

absl::Status ReadTokenIds(const OrderedJson& list, const std::string& name,
                          std::vector<int32_t>& out) {
  out.clear();
  if (!list.is_array()) return BadField(name, "must be a list of token ids");
  out.reserve(list.size());
  for (const OrderedJson& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return BadField(name, "holds " + id.dump() + ", which is no token id");
    }
    out.push_back(id.get<int32_t>());
  }
  return absl::OkStatus();
}

absl::StatusOr<OrderedJson> ParseBody(const std::string& body) {
  if (!IsValidUtf8(body)) return absl::InvalidArgumentError("the body is not valid UTF-8");
  RETURN_IF_ERROR(CheckSize(body));
  OrderedJson json = OrderedJson::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError("the body is not valid JSON");
  if (!json.is_object()) return absl::InvalidArgumentError("the body is not a JSON object");
  return json;
}

}  // namespace tramontane
