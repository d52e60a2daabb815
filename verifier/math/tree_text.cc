#include "verifier/math/tree_text.h"

#include <nlohmann/json.hpp>

namespace tramontane::math {
namespace {

using nlohmann::json;

constexpr size_t kMaxTextBytes = 16 << 10;

class TreeWriter {
 public:
  bool Write(const Expr& e) {
    switch (e.kind) {
      case Kind::kNumber: return Leaf("n", e.value.get_str());
      case Kind::kSymbol: return Leaf("s", e.name);
      case Kind::kConstant: return Leaf("c", e.name);
      case Kind::kSum: return Node("\"+\"", e);
      case Kind::kProduct: return Node("\"*\"", e);
      case Kind::kPower: return Node("\"^\"", e);
      case Kind::kPercent: return Node("\"%\"", e);
      case Kind::kCall: return Node("\"f\"," + json(e.name).dump(), e);
      case Kind::kMatrix: return Node("\"m\"," + std::to_string(e.columns), e);
      default: return false;
    }
  }

  std::string text;

 private:
  bool Add(const std::string& part) {
    text += part;
    return text.size() <= kMaxTextBytes;
  }

  bool Leaf(const char* kind, const std::string& value) {
    return Add(json{kind, value}.dump(-1, ' ', false, json::error_handler_t::replace));
  }

  bool Node(const std::string& head, const Expr& e) {
    if (!Add("[" + head)) return false;
    for (const ExprPtr& arg : e.args) {
      if (!Add(",") || !Write(*arg)) return false;
    }
    return Add("]");
  }
};

}  // namespace

std::optional<std::string> ExprText(const Expr& e) {
  TreeWriter writer;
  if (!writer.Write(e)) return std::nullopt;
  return std::move(writer.text);
}

}  // namespace tramontane::math
