#include "cli/progress.h"

#include <algorithm>

#include "cli/json_text.h"

namespace tramontane {
namespace {

// Absent and null numbers are left out of a line rather than shown as 0.
std::string Number(const Json& event, const char* key, const char* format) {
  const auto it = event.find(key);
  if (it == event.end() || !it->is_number()) return "";
  char buffer[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  std::snprintf(buffer, sizeof buffer, format, it->get<double>());
#pragma GCC diagnostic pop
  return buffer;
}

std::string RenderStep(const Json& event) {
  std::string line = "step" + Number(event, "step", " %4.0f") + Number(event, "max_steps", "/%.0f");
  line += Number(event, "reward_mean", "  reward %.3f");
  line += Number(event, "reward_10", " (10-step %.3f)");
  line += Number(event, "eval_accuracy", "  held-out %.3f");
  line += Number(event, "tokens_per_second", "  %5.0f tok/s");
  line += Number(event, "staleness_mean", "  staleness %.2f");
  if (event.contains("probe_gap")) {
    // A step far behind the generators may hold no token of its own version; each commit does.
    const Json gap = {
        {"gap", std::max(event.value("logprob_gap_max", 0.0), event.value("probe_gap", 0.0))}};
    line += Number(gap, "gap", "  gap %.1e");
  }
  line += Number(event, "grad_norm", "  grad %.2f");
  line += Number(event, "seconds", "  %.2fs");
  if (event.value("skipped", false)) line += "  SKIPPED: " + TextAt(event, "skip_reason");
  return line;
}

std::string RenderSftStep(const Json& event) {
  return TextAt(event, "kind") + Number(event, "step", " %4.0f") + Number(event, "steps", "/%.0f") +
         Number(event, "loss", "  loss %.4f") + Number(event, "kl", "  kl %.4f") +
         Number(event, "dpo_accuracy", "  preferred %.3f") +
         Number(event, "length_error", "  error %.3f") +
         Number(event, "learning_rate", "  lr %.1e") +
         Number(event, "tokens_per_second", "  %5.0f tok/s") + Number(event, "seconds", "  %.2fs");
}

std::string RenderStage(const Json& event) {
  std::string line = "== stage " + TextAt(event, "stage") + " (" + TextAt(event, "kind") + ") ";
  if (TextAt(event, "state") == "started")
    return line + Number(event, "number", "%.0f") + Number(event, "count", "/%.0f");
  return line + "done: " + TextAt(event, "reason") + ", " +
         TextAt(event, event.contains("model") ? "model" : "rows");
}

}  // namespace

std::string RenderEvent(const Json& event) {
  const std::string kind = event.value("event", "");
  if (kind == "step") return RenderStep(event);
  if (kind == "sft_step") return RenderSftStep(event);
  if (kind == "sft_eval") {
    return "held-out loss" + Number(event, "loss", " %.4f") +
           Number(event, "step", " after step %.0f") + Number(event, "least", ", least %.4f");
  }
  if (kind == "stage") return RenderStage(event);
  if (kind == "paused" || kind == "unpaused")
    return kind + " after step" + Number(event, "step", " %.0f") + ": " + TextAt(event, "reason");
  if (kind == "incident" && event.contains("incidents"))
    return "incident in step" + Number(event, "step", " %.0f") + ": " + event["incidents"].dump();
  if (kind == "eval") {
    return "held-out accuracy" + Number(event, "accuracy", " %.3f") +
           Number(event, "rows", " on %.0f rows") + Number(event, "version", " at version %.0f");
  }
  if (kind == "checkpoint") {
    return "checkpoint at step" + Number(event, "step", " %.0f") +
           Number(event, "seconds", " (%.2fs)");
  }
  if (kind == "waiting")
    return "waiting: " + TextAt(event, "waiting_for") + Number(event, "seconds", " for %.1fs");
  if (kind == "stopped" || kind == "finished") {
    return kind + " after step" + Number(event, "step", " %.0f") + ": " + TextAt(event, "reason");
  }
  if (kind == "resumed") {
    return "resumed at step" + Number(event, "step", " %.0f") +
           Number(event, "replayed", ", %.0f steps replayed from the journal");
  }
  return "";
}

void ProgressPrinter::Event(const Json& event) {
  if (mode_ == Mode::kJson) {
    std::fprintf(out_, "%s\n", event.dump().c_str());
    std::fflush(out_);
    return;
  }
  const std::string text = RenderEvent(event);
  if (text.empty()) return;
  // Not every SFT step is worth a line that stays.
  const bool sft = event.value("event", "") == "sft_step";
  const int64_t step = sft ? event.value("step", int64_t{0}) : 0;
  const bool milestone = step % 20 == 0 || step == 1 || step == event.value("steps", int64_t{-1});
  if (sft && !milestone && mode_ == Mode::kPlain) return;
  Line(text, (sft && !milestone) || event.value("event", "") == "waiting");
}

void ProgressPrinter::Note(const std::string& text) {
  if (mode_ == Mode::kJson) {
    std::fprintf(out_, "%s\n", Json({{"event", "note"}, {"text", text}}).dump().c_str());
    std::fflush(out_);
    return;
  }
  Line("· " + text, false);
}

void ProgressPrinter::Line(const std::string& text, bool transient) {
  const char* clear = transient_shown_ ? "\r\033[K" : "";
  transient = transient && mode_ == Mode::kTerminal;
  std::fprintf(out_, "%s%s%s", clear, text.c_str(), transient ? "" : "\n");
  std::fflush(out_);
  transient_shown_ = transient;
}

}  // namespace tramontane
