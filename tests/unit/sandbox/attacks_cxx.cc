// What needs machine code, and what is aimed at the compiler.
#include "tests/unit/sandbox/attacks.h"

namespace tramontane {
namespace {

constexpr char kCxxPreamble[] =
    "#include <bits/stdc++.h>\n#include <unistd.h>\n#include <fcntl.h>\n#include <sys/mman.h>\n"
    "#include <sys/prctl.h>\n#include <sys/ioctl.h>\n#include <sys/resource.h>\n"
    "#include <sys/syscall.h>\nusing namespace std;\n"
    "void trespass() { if (write(1, \"TRESPASS\", 8) < 0) _exit(9); }\n";

void AddRunning(std::vector<Attack>& attacks) {
  const auto add = [&attacks](const std::string& name, const std::string& body, bool dies = false) {
    attacks.push_back(
        {"cxx/" + name, "cpp", kCxxPreamble + ("int main() {\n" + body + "\n}\n"), dies});
  };
  // The 32-bit entry, where system calls have other numbers, and x32, where they have a bit more.
  add("int80_fork", "int r; asm volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(2)); trespass();", true);
  add("int80_socket",
      "int r; asm volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(359), \"b\"(2), \"c\"(1), "
      "\"d\"(0)); trespass();",
      true);
  add("int80_getpid", "int r; asm volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20)); trespass();",
      true);
  add("x32_getpid", "if (syscall(0x40000000 + 39) >= 0) trespass();", true);
  add("x32_fork", "if (syscall(0x40000000 + 57) >= 0) trespass();", true);
  for (const char* fd : {"0", "1", "2"}) {
    add(std::string("tiocsti_") + fd,
        std::string("char c = 'x'; if (ioctl(") + fd + ", TIOCSTI, &c) == 0) trespass();");
  }
  add("tioclinux", "char c = 2; if (ioctl(0, 0x541C, &c) == 0) trespass();");
  add("controlling_tty", "if (ioctl(0, TIOCSCTTY, 1) == 0) trespass();");
  add("ioctl_high_bits", "char c = 'x'; if (syscall(16, 0, 0x100005412ul, &c) == 0) trespass();");
  add("core_dump",
      "rlimit l{RLIM_INFINITY, RLIM_INFINITY}; if (setrlimit(RLIMIT_CORE, &l) == 0) "
      "trespass(); abort();",
      true);
  add("fork_bomb", "for (int i = 0; i < 100000; ++i) if (fork() == 0) { trespass(); pause(); }");
  add("thread_bomb",
      "vector<thread> v; try { while (true) v.emplace_back([] { pause(); }); } "
      "catch (system_error&) {} if (v.size() > 1000) trespass(); _exit(0);");
  add("memory",
      "while (true) { char* p = (char*)malloc(16 << 20); if (!p) break; memset(p, 1, "
      "16 << 20); }");
  add("memory_map",
      "while (true) { void* p = mmap(0, 64 << 20, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);"
      " if (p == MAP_FAILED) break; memset(p, 1, 64 << 20); }");
  add("stack",
      "function<long(long)> f = [&](long n) { char b[4096]; memset(b, 1, 4096); return f(n + "
      "1) + b[n % 4096]; }; return f(0);",
      true);
  add("spin", "volatile long x = 0; while (true) ++x;", true);
  add("ignore_cpu_signal", "signal(SIGXCPU, SIG_IGN); volatile long x = 0; while (true) ++x;",
      true);
  add("flood", "static char b[65536]; while (true) if (write(1, b, sizeof b) < 0) pause();", true);
  add("raise_limits",
      "rlimit l{RLIM_INFINITY, RLIM_INFINITY}; if (setrlimit(RLIMIT_AS, &l) == 0 || "
      "setrlimit(RLIMIT_NPROC, &l) == 0 || setrlimit(RLIMIT_FSIZE, &l) == 0) trespass();");
  add("ptrace_all",
      "for (int p = 1; p < 70000; ++p) if (syscall(101, 16, p, 0, 0) == 0) trespass();");
  add("kill_all_pids",
      "for (int p = 1; p < 70000; ++p) if (p != getpid() && kill(p, SIGKILL) == 0) "
      "trespass();");
  add("use_all_fds",
      "char b[64]; for (int f = 4; f < 4096; ++f) if (read(f, b, 64) >= 0 || "
      "write(f, b, 1) >= 0) trespass();");
  add("new_seccomp",
      "if (prctl(PR_SET_SECCOMP, 2, 0) == 0 || prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) "
      "== 0) trespass();");
  add("exec_setuid_by_fd",
      "int f = open(\"/usr/bin/su\", O_PATH); char* a[] = {(char*)\"su\", 0}; if (f "
      ">= 0) syscall(SYS_execveat, f, \"\", a, a, AT_EMPTY_PATH); if (geteuid() == "
      "0) trespass();");
}

void AddCompiling(const Targets& targets, std::vector<Attack>& attacks) {
  const auto add = [&attacks](const std::string& name, const std::string& source) {
    attacks.push_back({"compiler/" + name, "cpp", source});
  };
  const std::string main = "\n#include <cstdio>\nint main() { puts(\"TRESPASS\"); }\n";
  add("templates",
      "template <int N> struct A { A<N + 1> next; static const int v = A<N + 1>::v; };"
      "int x = A<0>::v;" +
          main);
  add("template_tree",
      "template <int N, int M> struct F { static const long v = F<N - 1, M * 2>::v + "
      "F<N - 1, M * 2 + 1>::v; }; template <int M> struct F<0, M> { static const long "
      "v = M; }; long x = F<40, 0>::v;" +
          main);
  add("constexpr_loop",
      "constexpr long f() { long n = 0; while (true) ++n; return n; } "
      "constexpr long x = f();" +
          main);
  std::string macros = "#define A0 x x x x x x x x x x\n";
  for (int i = 1; i < 12; ++i) {
    const std::string last = "A" + std::to_string(i - 1) + " ";
    macros += "#define A" + std::to_string(i);
    for (int j = 0; j < 10; ++j) macros += " " + last;
    macros += "\n";
  }
  add("macros", macros + "int y = A11;" + main);
  add("huge_array", "int a[1 << 30] = {1}; int b[1 << 30] = {1};" + main);
  add("huge_section", "asm(\".data\\n.fill 100000000000, 1, 1\\n\");" + main);
  add("deep_parentheses",
      "int x = " + std::string(100000, '(') + "1" + std::string(100000, ')') + ";" + main);
  add("include_itself", "#include __FILE__\n" + main);
  add("include_input", "#include \"/dev/stdin\"\n" + main);
  add("include_zero", "#include \"/dev/zero\"\n" + main);
  for (const std::string& file :
       {targets.secret_file, std::string("/etc/passwd"), std::string("/etc/shadow"),
        std::string("/proc/self/environ"), std::string("/proc/self/maps")}) {
    add("include" + file, "#include \"" + file + "\"\n");
    add("incbin" + file,
        "#include <unistd.h>\nasm(\".data\\nb: .incbin \\\"" + file +
            "\\\"\\ne:\\n.text\");\nextern char b, e;\n"
            "int main() { if (write(1, \"TRESPASS\", 8) > 0 && write(1, &b, &e - &b)) {} }\n");
  }
  add("dependency", "#pragma GCC dependency \"" + targets.secret_file + "\"\n");
  add("plugin", "#pragma GCC plugin \"/tmp/x.so\"\n#include \"" + targets.folder + "\"\n");
}

}  // namespace

std::vector<Attack> CxxAttacks(const Targets& targets) {
  std::vector<Attack> attacks;
  AddRunning(attacks);
  AddCompiling(targets, attacks);
  return attacks;
}

}  // namespace tramontane
