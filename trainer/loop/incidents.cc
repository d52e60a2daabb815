#include "trainer/loop/incidents.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "trainer/ledger/pause_file.h"

namespace tramontane {
namespace {

std::optional<double> Find(const Json& line, std::string name) {
  std::replace(name.begin(), name.end(), '.', '/');
  const Json::json_pointer pointer("/" + name);
  if (!line.contains(pointer) || !line[pointer].is_number()) return std::nullopt;
  return line[pointer].get<double>();
}

// "" while the value is inside.
std::string Describe(const std::string& name, double value, const BandSection& band) {
  const auto say = [&](const char* side, double bound) {
    return name + " " + Json(value).dump() + " is " + side + " " + Json(bound).dump();
  };
  if (band.low && value < *band.low) return say("below", *band.low);
  if (band.high && value > *band.high) return say("above", *band.high);
  return "";
}

}  // namespace

Incidents::Incidents(std::map<std::string, BandSection> bands, std::string run_dir,
                     const BlobStore& blobs, Events& events, MetricsRegistry& metrics)
    : run_dir_(std::move(run_dir)), blobs_(blobs), events_(events) {
  for (auto& [name, band] : bands) {
    watches_[name] = {.band = band,
                      .breaches = metrics.MakeCounter("tramontane_band_breaches_total",
                                                      {{"band", name}})};
  }
}

absl::Status Incidents::Look(const Json& line, const std::vector<std::string>& addresses) {
  std::vector<std::string> what;
  bool dump = false;
  std::string pause;
  if (line.value("nonfinite", false)) {
    what.push_back(line.value("skip_reason", ""));
    dump = true;
  }
  for (auto& [name, watch] : watches_) {
    const std::optional<double> value = Find(line, name);
    const std::string outside = value ? Describe(name, *value, watch.band) : "";
    watch.outside = outside.empty() ? 0 : watch.outside + 1;
    if (watch.outside < watch.band.patience_steps) continue;
    watch.outside = 0;  // patience begins anew
    watch.breaches.Add();
    what.push_back(outside);
    dump = dump || watch.band.action != "warn";
    if (watch.band.action == "pause" && pause.empty()) pause = outside;
  }
  if (what.empty()) return absl::OkStatus();
  const Json event = {{"event", "incident"},
                      {"step", line["step"]},
                      {"incidents", what},
                      {"paused", !pause.empty()}};
  LogWarn("incident", {{"step", line["step"].dump()}, {"what", Json(what).dump()}});
  events_.Emit(event);
  if (dump) RETURN_IF_ERROR(Dump(line, what, addresses));
  if (pause.empty()) return absl::OkStatus();
  return PauseRun(run_dir_, "step " + line["step"].dump() + ": " + pause);
}

absl::Status Incidents::Dump(Json line, const std::vector<std::string>& what,
                             const std::vector<std::string>& addresses) {
  if (dumps_ == kMostDumps) return absl::OkStatus();
  ++dumps_;
  const std::string folder = run_dir_ + "/dumps/step_" + line["step"].dump();
  RETURN_IF_ERROR(MakeDirs(folder));
  for (size_t i = 0; i < addresses.size(); ++i) {
    ASSIGN_OR_RETURN(const std::string bytes, blobs_.Get(addresses[i]));
    RETURN_IF_ERROR(WriteFileAtomic(folder + "/group_" + std::to_string(i) + ".record", bytes));
  }
  line["incidents"] = what;
  return WriteFileAtomic(folder + "/step.json", line.dump(1) + "\n");
}

}  // namespace tramontane
