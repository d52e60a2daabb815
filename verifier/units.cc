#include "verifier/units.h"

#include <algorithm>
#include <utility>

namespace tramontane {
namespace {

constexpr size_t kMaxUnitBytes = 64;

// Spellings and the one they are compared by.
constexpr std::pair<std::string_view, std::string_view> kUnits[] = {
    {"mm", "mm"}, {"millimeter", "mm"}, {"millimeters", "mm"}, {"millimetre", "mm"},
    {"millimetres", "mm"}, {"cm", "cm"}, {"centimeter", "cm"}, {"centimeters", "cm"},
    {"centimetre", "cm"}, {"centimetres", "cm"}, {"m", "m"}, {"meter", "m"}, {"meters", "m"},
    {"metre", "m"}, {"metres", "m"}, {"km", "km"}, {"kilometer", "km"}, {"kilometers", "km"},
    {"kilometre", "km"}, {"kilometres", "km"}, {"in", "in"}, {"inch", "in"}, {"inches", "in"},
    {"ft", "ft"}, {"foot", "ft"}, {"feet", "ft"}, {"yd", "yd"}, {"yard", "yd"}, {"yards", "yd"},
    {"mi", "mi"}, {"mile", "mi"}, {"miles", "mi"}, {"mg", "mg"}, {"milligram", "mg"},
    {"milligrams", "mg"}, {"g", "g"}, {"gram", "g"}, {"grams", "g"}, {"kg", "kg"},
    {"kilogram", "kg"}, {"kilograms", "kg"}, {"lb", "lb"}, {"lbs", "lb"}, {"pound", "lb"},
    {"pounds", "lb"}, {"oz", "oz"}, {"ounce", "oz"}, {"ounces", "oz"}, {"ton", "ton"},
    {"tons", "ton"}, {"ml", "ml"}, {"mL", "ml"}, {"milliliter", "ml"}, {"milliliters", "ml"},
    {"l", "l"}, {"L", "l"}, {"liter", "l"}, {"liters", "l"}, {"litre", "l"}, {"litres", "l"},
    {"gal", "gal"}, {"gallon", "gal"}, {"gallons", "gal"}, {"ms", "ms"}, {"s", "s"},
    {"sec", "s"}, {"secs", "s"}, {"second", "s"}, {"seconds", "s"}, {"min", "min"},
    {"mins", "min"}, {"minute", "min"}, {"minutes", "min"}, {"h", "h"}, {"hr", "h"}, {"hrs", "h"},
    {"hour", "h"}, {"hours", "h"}, {"day", "day"}, {"days", "day"}, {"week", "week"},
    {"weeks", "week"}, {"month", "month"}, {"months", "month"}, {"year", "year"},
    {"years", "year"}, {"dollar", "dollar"}, {"dollars", "dollar"}, {"USD", "dollar"},
    {"cent", "cent"}, {"cents", "cent"}, {"euro", "euro"}, {"euros", "euro"}, {"°", "°"},
    {"deg", "°"}, {"degree", "°"}, {"degrees", "°"}, {"°C", "°C"}, {"°F", "°F"},
    {"radian", "rad"}, {"radians", "rad"}, {"rad", "rad"}, {"unit", "unit"}, {"units", "unit"},
    {"mph", "mi/h"}, {"kph", "km/h"}, {"Hz", "Hz"}, {"N", "N"}, {"J", "J"}, {"W", "W"},
    {"kW", "kW"}, {"V", "V"}, {"A", "A"}, {"K", "K"}, {"mol", "mol"}, {"Pa", "Pa"}};

std::string_view Lookup(std::string_view word) {
  for (const auto& [spelling, name] : kUnits) {
    if (spelling == word) return name;
  }
  return {};
}


class UnitReader {
 public:
  UnitReader(std::string_view text, bool spaced) : rest_(text), spaced_(spaced) {}

  std::optional<std::string> Run() {
    std::string out;
    if (!Product(out)) return std::nullopt;
    while (!rest_.empty()) {
      if (!Take("/") && !TakeWord("per")) return std::nullopt;
      SkipSpaces();
      spaced_ = true;
      out += '/';
      if (!Product(out)) return std::nullopt;
    }
    return out;
  }

 private:
  bool Product(std::string& out) {
    int power = 0;
    if (TakeWord("square") || TakeWord("sq")) power = 2;
    if (power == 0 && TakeWord("cubic")) power = 3;
    if (power != 0) spaced_ = true;
    const size_t end = std::min(rest_.find_first_of(" /^*\xc2"), rest_.size());
    size_t length = end;
    // ° is two bytes, the first of which ends a word; ² and ³ begin with the same byte.
    if (end == 0 && rest_.starts_with("°")) {
      length = std::min(rest_.find_first_of(" /^*", 2), rest_.size());
    }
    const std::string_view word = rest_.substr(0, length);
    const std::string_view name = Lookup(word);
    if (name.empty() || (word.size() == 1 && !spaced_)) return false;
    rest_.remove_prefix(length);
    if (power == 0) power = Power();
    out += name;
    if (power != 1) out += '^' + std::to_string(power);
    SkipSpaces();
    return true;
  }

  int Power() {
    for (const auto& [written, power] :
         {std::pair{"^{2}", 2}, {"^2", 2}, {"²", 2}, {"^{3}", 3}, {"^3", 3}, {"³", 3}}) {
      if (Take(written)) return power;
    }
    return 1;
  }

  bool Take(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  bool TakeWord(std::string_view word) {
    if (!rest_.starts_with(word) || rest_.size() == word.size() || rest_[word.size()] != ' ') {
      return false;
    }
    rest_.remove_prefix(word.size());
    SkipSpaces();
    return true;
  }
  void SkipSpaces() { rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size())); }

  std::string_view rest_;
  bool spaced_;
};

}  // namespace

std::optional<std::string> ParseUnit(std::string_view text, bool spaced) {
  if (text.size() > kMaxUnitBytes) return std::nullopt;
  return UnitReader(text, spaced).Run();
}

}  // namespace tramontane
