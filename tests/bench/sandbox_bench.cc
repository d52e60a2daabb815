// How many programs a second the sandbox runs, and how long one takes.
//
//   sandbox_bench [PROGRAMS] [THREADS] [auto|off]    prints one JSON object a measurement
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/metrics.h"
#include "verifier/sandbox/local_runner.h"

namespace tramontane {
namespace {

struct Measured {
  std::vector<double> seconds;  // of each run, sorted
  double wall_seconds = 0;
  int failures = 0;
};

Measured Measure(LocalRunner& runner, const ProgramSpec& program, const std::string& input,
                 const std::string& expected, int programs, int threads) {
  std::vector<std::vector<double>> seconds(static_cast<size_t>(threads));
  std::atomic<int> next = 0, failures = 0;
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> workers;
  for (auto& own : seconds) {
    workers.emplace_back([&] {
      while (next.fetch_add(1) < programs) {
        const auto begin = std::chrono::steady_clock::now();
        const auto run = runner.Run(program, input, {});
        own.push_back(SecondsSince(begin));
        if (!run.ok() || run->output != expected) failures.fetch_add(1);
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  Measured measured{{}, SecondsSince(start), failures};
  for (const auto& own : seconds)
    measured.seconds.insert(measured.seconds.end(), own.begin(), own.end());
  std::sort(measured.seconds.begin(), measured.seconds.end());
  return measured;
}

void Print(const std::string& what, const Measured& m) {
  const auto at = [&m](double share) {
    return m.seconds[static_cast<size_t>(share * static_cast<double>(m.seconds.size() - 1))] * 1e3;
  };
  std::cout << Json{{"what", what},
                    {"programs", m.seconds.size()},
                    {"programs_per_s", static_cast<double>(m.seconds.size()) / m.wall_seconds},
                    {"p50_ms", at(0.5)},
                    {"p99_ms", at(0.99)},
                    {"failures", m.failures}}
            << std::endl;
}

int Main(int argc, char** argv) {
  const int programs = argc > 1 ? std::atoi(argv[1]) : 400;
  SandboxSection section;
  section.programs = argc > 2 ? std::atoi(argv[2]) : 2;
  section.namespaces = argc > 3 ? argv[3] : "auto";
  MetricsRegistry metrics;
  const auto start = std::chrono::steady_clock::now();
  const auto runner = LocalRunner::Create(section, "", metrics);
  if (!runner.ok()) {
    std::cerr << runner.status() << "\n";
    return 1;
  }
  const SandboxDescription description = *(*runner)->Describe();
  std::cout << Json{{"tier", description.tier},
                    {"layers", description.layers},
                    {"start_s", SecondsSince(start)}}
            << std::endl;
  const int threads = section.programs;
  Print("python, standard input",
        Measure(**runner, {"python", "print(sum(map(int, input().split())))", ""}, "1 2 3\n", "6\n",
                programs, threads));
  Print("python, function", Measure(**runner, {"python", "def f(a, b): return a + b", "f"},
                                    "[1, 2]", "3", programs, threads));
  const std::string cxx =
      "#include <bits/stdc++.h>\nint main() { int a, b; std::cin >> a >> b; "
      "std::cout << a + b << '\\n'; }";
  Print("c++, compiled before",
        Measure(**runner, {"cpp", cxx, ""}, "1 2\n", "3\n", programs, threads));
  Measured compiles;
  for (int i = 0; i < 6; ++i) {
    const Measured one =
        Measure(**runner, {"cpp", cxx + "//" + std::to_string(i), ""}, "1 2\n", "3\n", 1, 1);
    compiles.seconds.push_back(one.seconds[0]);
    compiles.wall_seconds += one.wall_seconds;
    compiles.failures += one.failures;
  }
  std::sort(compiles.seconds.begin(), compiles.seconds.end());
  Print("c++, compiled and run", compiles);
  return 0;
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
