// The program of the child that knows SymPy (algebra.h). It speaks over descriptor 3: a line when it
// is ready, then for each line [tree, tree] one of true, false, null.
#pragma once

namespace tramontane {

// For `python -I -c`, with the bytes of address space it may have as the argument.
extern const char kAlgebraScript[];

}  // namespace tramontane
