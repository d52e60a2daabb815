// Units of measurement behind a number. Conservative: only units that are known are units, so that
// the x of "5x" or the i of "3i" is never taken for one. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tramontane {

// Reads all of `text` ("cm", "square feet", "km/h", "m^2", "°") into one spelling ("cm", "ft^2").
// `spaced`: a blank stood between number and unit; a unit of one letter needs it.
std::optional<std::string> ParseUnit(std::string_view text, bool spaced);

}  // namespace tramontane
