// The picture of a run: sampled reward and held-out accuracy over steps, drawn by gnuplot from
// metrics.jsonl. The gnuplot script and its data stay in <run>/plots for changes by hand.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

enum class PictureFormat { kSvg, kPng };

// Returns the picture's path, <run>/curves.svg or .png. Of a chain: its stages with a run loop one
// behind the other, each from a line with its name on. Errors: NotFound (no gnuplot, no metrics).
absl::StatusOr<std::string> PlotRun(const std::string& run_dir, PictureFormat format);

}  // namespace tramontane
