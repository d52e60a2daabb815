// Exit codes with a meaning between a program and who started it.
#pragma once

namespace tramontane {

// What was lost was not the program's own: started again, it can go on (EX_TEMPFAIL of sysexits.h).
inline constexpr int kTryAgainExit = 75;

}  // namespace tramontane
