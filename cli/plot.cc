#include "cli/plot.h"

#include <vector>

#include "cli/child_process.h"
#include "cli/summary.h"
#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr double kGnuplotTimeoutS = 60;

struct Curves {
  std::string reward;    // "step reward 10-step-mean" lines
  std::string accuracy;  // "step accuracy" lines
};

Curves MakeCurves(const std::vector<Json>& metrics) {
  Curves curves;
  const auto number = [](const Json& json, const char* key) {
    const auto it = json.find(key);
    return it != json.end() && it->is_number() ? it->dump() : std::string("NaN");
  };
  for (const Json& entry : metrics) {
    const std::string kind = entry.value("event", "");
    if (kind == "step") {
      curves.reward += number(entry, "step") + " " + number(entry, "reward_mean") + " " +
                       number(entry, "reward_10") + "\n";
    } else if (kind == "eval") {
      curves.accuracy += number(entry, "version") + " " + number(entry, "accuracy") + "\n";
    }
  }
  return curves;
}

// gnuplot strings in single quotes double the quote.
std::string Quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

std::string Script(const std::string& folder, const std::string& picture, PictureFormat format,
                   bool has_accuracy) {
  std::string script =
      format == PictureFormat::kSvg
          ? "set terminal svg size 900,520 background 'white' font 'sans-serif,14'\n"
          : "set terminal pngcairo size 900,520 background 'white' font 'sans-serif,11'\n";
  script += "set output " + Quoted(picture) + "\n" +
            "set xlabel 'optimiser step (weight version)'\nset yrange [0:1.02]\nset ytics 0.1\n"
            "set grid lc rgb '#dddddd'\nset key bottom right\nset border 3\nset tics nomirror\n"
            "plot " + Quoted(folder + "/reward.dat") +
            " using 1:2 with lines lc rgb '#b7cfe8' title 'mean sampled reward', \\\n  " +
            Quoted(folder + "/reward.dat") +
            " using 1:3 with lines lw 2.5 lc rgb '#1f5fa8' title 'the same, 10-step mean'";
  if (has_accuracy) {
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
  ASSIGN_OR_RETURN(const std::vector<Json> metrics, ReadMetrics(run_dir));
  const Curves curves = MakeCurves(metrics);
  if (curves.reward.empty()) return absl::NotFoundError(run_dir + "/metrics.jsonl: no steps to draw yet");
  const std::string folder = run_dir + "/plots";
  const std::string picture = run_dir + (format == PictureFormat::kSvg ? "/curves.svg" : "/curves.png");
  RETURN_IF_ERROR(MakeDirs(folder));
  RETURN_IF_ERROR(WriteFileAtomic(folder + "/reward.dat", curves.reward));
  RETURN_IF_ERROR(WriteFileAtomic(folder + "/accuracy.dat", curves.accuracy));
  RETURN_IF_ERROR(WriteFileAtomic(folder + "/curves.gnuplot",
                                  Script(folder, picture, format, !curves.accuracy.empty())));
  RETURN_IF_ERROR(RunGnuplot(folder));
  return picture;
}

}  // namespace tramontane
