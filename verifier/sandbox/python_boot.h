// What the Python interpreter in the jail executes first. It reads the program from descriptor 3
// and becomes it. It holds no secret and decides nothing: a program that gets the better of it can
// only write other bytes to its own output.
#pragma once

namespace tramontane {

// For `python3 -s -P -S -B -c`: the program as `__main__`, with its own standard input.
extern const char kPythonProgramBoot[];
// The first argument after it when the program is started among files, to find modules there.
inline constexpr char kPythonTreeFlag[] = "tree";
// With the function's name as the last argument: ProgramSpec::function.
extern const char kPythonFunctionBoot[];

}  // namespace tramontane
