#include "services/generator/http/vllm_aliases.h"

#include <charconv>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace tramontane {
namespace {

struct Alias {
  std::string_view ours, label, theirs, kind, their_label;
};

// `label`: only series that carry it, and it is dropped; with `their_label` the label of that
// spelling takes its place.
constexpr Alias kAliases[] = {
    {"tramontane_generator_running_sequences", "", "num_requests_running", "gauge", ""},
    {"tramontane_generator_waiting_sequences", "", "num_requests_waiting", "gauge", ""},
    {"tramontane_generator_tokens_total", "kind=\"generated\"", "generation_tokens_total",
     "counter", ""},
    {"tramontane_generator_tokens_total", "kind=\"prompt\"", "prompt_tokens_total", "counter", ""},
    {"tramontane_generator_preemptions_total", "", "num_preemptions_total", "counter", ""},
    {"tramontane_generator_finished_total", "reason=\"stop\"", "request_success_total", "counter",
     "finished_reason=\"stop\""},
    {"tramontane_generator_finished_total", "reason=\"length\"", "request_success_total",
     "counter", "finished_reason=\"length\""},
    {"tramontane_generator_finished_total", "reason=\"aborted\"", "request_success_total",
     "counter", "finished_reason=\"abort\""},
    {"tramontane_http_time_to_first_token_seconds", "", "time_to_first_token_seconds", "histogram",
     ""},
    {"tramontane_http_inter_token_seconds", "", "inter_token_latency_seconds", "histogram", ""},
    {"tramontane_http_request_seconds", "", "e2e_request_latency_seconds", "histogram", ""},
};

struct Series {
  std::string_view name, labels, value;  // labels without braces
};

// A line of the page, if it is a series.
std::optional<Series> Parse(std::string_view line) {
  if (line.empty() || line.front() == '#') return std::nullopt;
  const size_t value = line.rfind(' ');
  if (value == std::string_view::npos) return std::nullopt;
  const size_t brace = line.find('{');
  if (brace == std::string_view::npos || brace > value) {
    return Series{line.substr(0, value), "", line.substr(value + 1)};
  }
  const size_t end = line.rfind('}', value);
  return Series{line.substr(0, brace), line.substr(brace + 1, end - brace - 1),
                line.substr(value + 1)};
}

// What follows `ours` in a series' name: nothing, or a histogram's part. Nothing else matches.
std::optional<std::string_view> Suffix(std::string_view name, const Alias& alias) {
  if (!name.starts_with(alias.ours)) return std::nullopt;
  const std::string_view suffix = name.substr(alias.ours.size());
  const bool part = suffix == "_bucket" || suffix == "_sum" || suffix == "_count";
  if (suffix.empty() || (part && alias.kind == "histogram")) return suffix;
  return std::nullopt;
}

class Writer {
 public:
  explicit Writer(const std::string& model_name) {
    for (const char c : model_name) {
      if (c == '"' || c == '\\') labels_ += '\\';
      labels_ += c;
    }
    labels_ = "model_name=\"" + labels_ + "\",engine=\"0\"";
  }

  void Kind(std::string_view name, std::string_view kind) {
    if (name == last_) return;
    last_ = name;
    out_ << "# TYPE vllm:" << name << ' ' << kind << '\n';
  }
  void Line(std::string_view name, std::string_view suffix, std::string_view more,
            std::string_view value) {
    out_ << "vllm:" << name << suffix << '{' << labels_;
    if (!more.empty()) out_ << ',' << more;
    out_ << "} " << value << '\n';
  }
  std::string Take() { return out_.str(); }

 private:
  std::string labels_;
  std::string_view last_;
  std::ostringstream out_;
};

double Number(std::string_view text) {
  double number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace

std::string VllmAliases(const std::string& page, const std::string& model_name) {
  std::vector<Series> all;
  for (size_t begin = 0; begin < page.size();) {
    const size_t end = std::min(page.find('\n', begin), page.size());
    if (const auto series = Parse(std::string_view(page).substr(begin, end - begin))) {
      all.push_back(*series);
    }
    begin = end + 1;
  }
  Writer writer(model_name);
  for (const Alias& alias : kAliases) {
    for (const Series& series : all) {
      const auto suffix = Suffix(series.name, alias);
      if (!suffix.has_value() || (!alias.label.empty() && series.labels != alias.label)) continue;
      writer.Kind(alias.theirs, alias.kind);
      writer.Line(alias.theirs, *suffix, alias.label.empty() ? series.labels : alias.their_label,
                  series.value);
    }
  }
  double used = 0, total = 0;
  for (const Series& series : all) {
    if (series.name != "tramontane_generator_kv_blocks") continue;
    (series.labels == "state=\"used\"" ? used : total) = Number(series.value);
  }
  if (total > 0) {
    writer.Kind("kv_cache_usage_perc", "gauge");
    writer.Line("kv_cache_usage_perc", "", "", std::to_string(used / total));
  }
  return writer.Take();
}

}  // namespace tramontane
