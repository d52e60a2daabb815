#include "cli/plot.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "cli/chain.h"
#include "cli/child_process.h"
#include "cli/summary.h"
#include "common/files.h"
#include "common/stages.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr double kGnuplotTimeoutS = 60;

struct Curves {
  std::string reward;    // "step reward 10-step-mean" lines
  std::string accuracy;  // "step accuracy" lines
  int64_t steps = 0;
  std::vector<std::pair<int64_t, std::string>> stages;  // of a chain: steps before, name
};

// Appends a run's lines behind what is there. A line that is empty ends a curve.
void AddCurves(const std::vector<Json>& metrics, Curves& curves) {
  const auto number = [](const Json& json, const char* key) {
    const auto it = json.find(key);
    return it != json.end() && it->is_number() ? it->dump() : std::string("NaN");
  };
  const int64_t before = curves.steps;
  const auto place = [&](const Json& entry, const char* key) {
    const int64_t step = before + entry.value(key, int64_t{0});
    curves.steps = std::max(curves.steps, step);
    return std::to_string(step);
  };
  for (std::string* curve : {&curves.reward, &curves.accuracy}) {
    if (!curve->empty()) *curve += "\n";
  }
  for (const Json& entry : metrics) {
    const std::string kind = entry.value("event", "");
    if (kind == "step") {
      curves.reward += place(entry, "step") + " " + number(entry, "reward_mean") + " " +
                       number(entry, "reward_10") + "\n";
    } else if (kind == "eval") {
      curves.accuracy += place(entry, "version") + " " + number(entry, "accuracy") + "\n";
    }
  }
}

absl::StatusOr<Curves> CurvesOf(const std::string& run_dir) {
  Curves curves;
  ASSIGN_OR_RETURN(const std::optional<RunConfig> chain, LoadChain(run_dir));
  if (!chain) {
    ASSIGN_OR_RETURN(const std::vector<Json> metrics, ReadMetrics(run_dir));
    AddCurves(metrics, curves);
    return curves;
  }
  for (size_t i = 0; i < chain->stages.size(); ++i) {
    const auto metrics = ReadMetrics(StageRunDir(run_dir, *chain, i));
    if (absl::IsNotFound(metrics.status())) continue;
    RETURN_IF_ERROR(metrics.status());
    curves.stages.emplace_back(curves.steps, chain->stages[i].name);
    AddCurves(*metrics, curves);
  }
  return curves;
}

// gnuplot strings in single quotes double the quote.
std::string Quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

// A line where each stage begins, with its name.
std::string Marks(const Curves& curves) {
  std::string marks;
  for (const auto& [step, name] : curves.stages) {
    const std::string x = std::to_string(step);
    marks += "set arrow from " + x + ", graph 0 to " + x +
             ", graph 1 nohead dt 2 lc rgb '#999999'\n" + "set label " + Quoted(name) + " at " + x +
             ", graph 0.97 offset 0.5,0 noenhanced\n";
  }
  return marks;
}

std::string Script(const std::string& folder, const std::string& picture, PictureFormat format,
                   const Curves& curves) {
  std::string script =
      format == PictureFormat::kSvg
          ? "set terminal svg size 900,520 background 'white' font 'sans-serif,14'\n"
          : "set terminal pngcairo size 900,520 background 'white' font 'sans-serif,11'\n";
  script += "set output " + Quoted(picture) + "\n" +
            "set xlabel 'optimiser step (weight version)'\nset yrange [0:1.02]\nset ytics 0.1\n"
            "set grid lc rgb '#dddddd'\nset key bottom right\nset border 3\nset tics nomirror\n" +
            Marks(curves) + "plot " + Quoted(folder + "/reward.dat") +
            " using 1:2 with lines lc rgb '#b7cfe8' title 'mean sampled reward', \\\n  " +
            Quoted(folder + "/reward.dat") +
            " using 1:3 with lines lw 2.5 lc rgb '#1f5fa8' title 'the same, 10-step mean'";
  if (!curves.accuracy.empty()) {
    script += ", \\\n  " + Quoted(folder + "/accuracy.dat") +
              " using 1:2 with linespoints lw 2 pt 7 ps 0.6 lc rgb '#d1495b' "
              "title 'held-out accuracy (greedy)'";
  }
  return script + "\n";
}

absl::Status RunGnuplot(const std::string& folder) {
  const std::string log = folder + "/gnuplot.log";
  ASSIGN_OR_RETURN(const FinishedProgram gnuplot,
                   RunToEnd({"gnuplot", folder + "/curves.gnuplot"}, log, kGnuplotTimeoutS));
  if (gnuplot.exit.clean()) return absl::OkStatus();
  return absl::InternalError("gnuplot ended with " + gnuplot.exit.ToString() + "; see " + log);
}

}  // namespace

absl::StatusOr<std::string> PlotRun(const std::string& run_dir, PictureFormat format) {
  ASSIGN_OR_RETURN(const Curves curves, CurvesOf(run_dir));
  if (curves.reward.empty()) {
    return absl::NotFoundError(run_dir + (curves.stages.empty() ? "/metrics.jsonl" : "/stages") +
                               ": no steps to draw yet");
  }
  const std::string folder = run_dir + "/plots";
  const std::string picture = run_dir + (format == PictureFormat::kSvg ? "/curves.svg" : "/curves.png");
  RETURN_IF_ERROR(MakeDirs(folder));
  RETURN_IF_ERROR(WriteFileAtomic(folder + "/reward.dat", curves.reward));
  RETURN_IF_ERROR(WriteFileAtomic(folder + "/accuracy.dat", curves.accuracy));
  RETURN_IF_ERROR(
      WriteFileAtomic(folder + "/curves.gnuplot", Script(folder, picture, format, curves)));
  RETURN_IF_ERROR(RunGnuplot(folder));
  return picture;
}

}  // namespace tramontane
