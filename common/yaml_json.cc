#include "common/yaml_json.h"

#include <yaml-cpp/yaml.h>

#include "common/status.h"

namespace tramontane {
namespace {

Json ScalarToJson(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  if (text == "true" || text == "false") return text == "true";
  int64_t integer = 0;
  if (YAML::convert<int64_t>::decode(node, integer)) return integer;
  uint64_t natural = 0;
  if (YAML::convert<uint64_t>::decode(node, natural)) return natural;
  double real = 0;
  if (YAML::convert<double>::decode(node, real)) return real;
  return text;
}

absl::StatusOr<Json> NodeToJson(const YAML::Node& node, int depth) {
  if (depth > 32) return absl::InvalidArgumentError("nested deeper than 32 levels");
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      return Json(nullptr);
    case YAML::NodeType::Scalar:
      return ScalarToJson(node);
    case YAML::NodeType::Sequence: {
      Json out = Json::array();
      for (const YAML::Node& item : node) {
        ASSIGN_OR_RETURN(Json value, NodeToJson(item, depth + 1));
        out.push_back(std::move(value));
      }
      return out;
    }
    case YAML::NodeType::Map: {
      Json out = Json::object();
      for (const auto& entry : node) {
        const std::string key = entry.first.Scalar();
        if (out.contains(key)) return absl::InvalidArgumentError("key '" + key + "' stands twice");
        ASSIGN_OR_RETURN(out[key], NodeToJson(entry.second, depth + 1));
      }
      return out;
    }
  }
  return absl::InternalError("unreachable");
}

}  // namespace

absl::StatusOr<Json> YamlToJson(const std::string& text) {
  try {
    return NodeToJson(YAML::Load(text), 0);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace tramontane
