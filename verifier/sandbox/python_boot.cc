#include "verifier/sandbox/python_boot.h"

namespace tramontane {

// `exit` and `quit` come from the site module, which is not loaded: it would double the time to
// start. The descriptor is read by position because other runs of the program share its offset.
const char kPythonProgramBoot[] = R"python(
def _boot():
    import builtins, os, sys
    builtins.exit = builtins.quit = sys.exit
    source = os.pread(3, os.fstat(3).st_size, 0)
    os.close(3)
    main = type(sys)("__main__")
    main.__builtins__ = builtins
    sys.modules["__main__"] = main
    if sys.argv[1:] == ["tree"]:
        del sys.argv[1]
        sys.path.insert(0, os.getcwd())
    return compile(source, "program.py", "exec"), main.__dict__
exec(*_boot())
)python";

// The usual names of solution templates are there, as they are in the judges that such functions
// are written for. Tuples become arrays, as JSON has no others; what JSON cannot say is an error.
const char kPythonFunctionBoot[] = R"python(
def _boot():
    import builtins, json, os, sys
    builtins.exit = builtins.quit = sys.exit
    source = os.pread(3, os.fstat(3).st_size, 0)
    os.close(3)
    arguments = json.loads(sys.stdin.buffer.read())
    result_fd = os.dup(1)
    os.dup2(2, 1)
    main = type(sys)("solution")
    main.__builtins__ = builtins
    sys.modules["solution"] = main
    exec("import bisect, collections, functools, heapq, itertools, math, operator, re, string\n"
         "from collections import *\nfrom functools import *\nfrom itertools import *\n"
         "from heapq import *\nfrom bisect import *\nfrom math import *\nfrom typing import *\n", main.__dict__)
    main.pow = pow  # of the built-ins: it takes a modulus
    if sys.argv[1:-1] == ["tree"]:
        sys.path.insert(0, os.getcwd())
    template = dict(main.__dict__)
    exec(compile(source, "program.py", "exec"), main.__dict__)
    name = sys.argv[-1]
    owner = main.__dict__.get("Solution")
    function = main.__dict__.get(name)
    if owner is not None and hasattr(owner, name):
        function = getattr(owner(), name)
    if function is None or function is template.get(name):
        sys.exit("the program defines no function " + name)
    result = json.dumps(function(*arguments)).encode()
    while result:
        result = result[os.write(result_fd, result):]
    os.close(result_fd)
_boot()
)python";

}  // namespace tramontane
