// The look of a formula taken away, so that what remains can be compared. Pure, one pass.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tramontane {

// Removes dollar signs, \left and \right, spacing commands, the wrapping of \text{}, \mathrm{},
// \boxed{} and their kin, and a full stop at the end; writes \dfrac as \frac, \cdot and \times as
// *, a degree sign as °, the Unicode minus as -. Runs of blanks become one.
// Absent when braces do not balance.
std::optional<std::string> CleanMath(std::string_view text);

}  // namespace tramontane
