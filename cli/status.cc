#include "cli/status.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <thread>

#include "cli/chain.h"
#include "common/files.h"
#include "common/status.h"
#include "queue/redis.h"
#include "services/convert.h"
#include "services/rpc.h"
#include "services/run_files.h"
#include "services/verifier/health_probe.h"
#include "tramontane/v1/control.grpc.pb.h"
#include "tramontane/v1/generator.grpc.pb.h"
#include "tramontane/v1/trainer.grpc.pb.h"
#include "tramontane/v1/verifier.grpc.pb.h"

namespace tramontane {
namespace {

bool ProcessExists(int pid) { return pid > 0 && (::kill(pid, 0) == 0 || errno == EPERM); }

Json ToJson(const v1::ProcessState& state) {
  Json waiting = Json::object();
  for (const auto& [reason, seconds] : state.waiting_seconds()) waiting[reason] = seconds;
  Json json = {{"phase", state.phase()},
               {"waiting_seconds", waiting},
               {"weight_version", state.weight_version()}};
  if (state.has_detail()) json["detail"] = FromStruct(state.detail());
  return json;
}

Json ToJson(const v1::QueueState& queue) {
  Json json = {{"waiting", queue.waiting()},
               {"leased", queue.leased()},
               {"completed", queue.completed()},
               {"dead", queue.dead()},
               {"oldest_waiting_s", queue.oldest_waiting_s()}};
  if (queue.leased() > 0) {
    json["oldest_lease"] = {{"seconds", queue.oldest_lease_s()},
                            {"worker", queue.oldest_lease_worker()}};
  }
  return json;
}

double Share(double part, double whole) { return whole > 0 ? part / whole : 0; }

absl::StatusOr<Json> AskTrainer(const std::shared_ptr<grpc::Channel>& channel, double timeout_s) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_s);
  v1::TrainerState state;
  const auto stub = v1::Trainer::NewStub(channel);
  RETURN_IF_ERROR(FromGrpc(stub->GetState(&context, v1::GetTrainerStateRequest(), &state)));
  Json json = ToJson(state.process());
  json["step"] = state.step();
  json["steps"] = state.steps();
  json["run_kind"] = state.kind();
  json["trainer_epoch"] = state.trainer_epoch();
  json["groups"] = {{"issued", state.groups_issued()},
                    {"running", state.groups_running()},
                    {"ready", state.groups_ready()},
                    {"trained", state.groups_trained()},
                    {"dropped", state.groups_dropped()}};
  json["queue"] = state.has_queue() ? ToJson(state.queue()) : Json();
  json["mean_reward"] = state.mean_reward();
  json["mean_staleness_versions"] = state.mean_staleness_versions();
  json["eval_accuracy"] = state.has_eval_accuracy() ? Json(state.eval_accuracy()) : Json();
  json["busy_share"] = Share(state.busy_seconds(), state.uptime_seconds());
  json["generator_versions"] = Json::object();
  for (const auto& [id, version] : state.generator_versions())
    json["generator_versions"][id] = version;
  return json;
}

absl::StatusOr<Json> AskGenerator(const std::shared_ptr<grpc::Channel>& channel, double timeout_s) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_s);
  v1::GeneratorState state;
  const auto stub = v1::Generator::NewStub(channel);
  RETURN_IF_ERROR(FromGrpc(stub->GetState(&context, v1::GetGeneratorStateRequest(), &state)));
  Json json = ToJson(state.process());
  json["running_sequences"] = state.running_sequences();
  json["waiting_sequences"] = state.waiting_sequences();
  json["kv_blocks"] = {{"used", state.kv_blocks_used()}, {"total", state.kv_blocks_total()}};
  json["generated_tokens"] = state.generated_tokens();
  json["busy_seconds"] = state.busy_seconds();
  json["busy_share"] = Share(state.busy_seconds(), state.uptime_seconds());
  return json;
}

absl::StatusOr<Json> AskControl(const std::shared_ptr<grpc::Channel>& channel, double timeout_s) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_s);
  v1::ProcessState state;
  const auto stub = v1::Control::NewStub(channel);
  RETURN_IF_ERROR(FromGrpc(stub->GetProcessState(&context, v1::GetProcessStateRequest(), &state)));
  return ToJson(state);
}

// A verifier that a researcher wrote need not have our Control service; gRPC's own health service
// then has to do.
absl::StatusOr<Json> AskVerifier(const std::shared_ptr<grpc::Channel>& channel, double timeout_s) {
  absl::StatusOr<Json> control = AskControl(channel, timeout_s);
  if (!absl::IsUnimplemented(control.status())) return control;
  absl::Status health = CheckHealth(channel, v1::Verifier::service_full_name(), timeout_s);
  if (absl::IsNotFound(health)) health = CheckHealth(channel, "", timeout_s);  // the whole server
  if (!health.ok()) return health;
  return Json{{"phase", "serving"}, {"waiting_seconds", Json::object()}};
}

absl::StatusOr<Json> AskRedis(const std::string& url, double timeout_s) {
  ASSIGN_OR_RETURN(const auto connection, RedisConnection::Create(url, timeout_s));
  const auto reply = connection->Command({"PING"});
  if (!reply.ok()) return reply.status();
  return Json{{"phase", "serving"}, {"waiting_seconds", Json::object()}};
}

absl::StatusOr<Json> Ask(const Json& process, const std::string& redis_url, double timeout_s) {
  const std::string kind = process.value("kind", ""), address = process.value("address", "");
  if (kind == "redis") return AskRedis(redis_url, timeout_s);
  if (address.empty()) return absl::UnavailableError("has not said where it listens yet");
  const auto channel = MakeChannel(address);
  if (kind == "trainer") return AskTrainer(channel, timeout_s);
  if (kind == "generator") return AskGenerator(channel, timeout_s);
  if (kind == "verifier") return AskVerifier(channel, timeout_s);
  return AskControl(channel, timeout_s);
}

// Groups between trainer and generators, by where they are.
std::string RenderQueue(const Json& queue) {
  char line[256];
  std::snprintf(line, sizeof line,
                "  queue            waiting %lld  leased %lld  completed %lld  dead %lld",
                static_cast<long long>(queue.value("waiting", int64_t{0})),
                static_cast<long long>(queue.value("leased", int64_t{0})),
                static_cast<long long>(queue.value("completed", int64_t{0})),
                static_cast<long long>(queue.value("dead", int64_t{0})));
  std::string text = line;
  if (queue.value("waiting", int64_t{0}) > 0) {
    std::snprintf(line, sizeof line, "  oldest waits %.1f s", queue.value("oldest_waiting_s", 0.0));
    text += line;
  }
  if (queue.contains("oldest_lease")) {
    const Json& lease = queue["oldest_lease"];
    std::snprintf(line, sizeof line, "  oldest lease %.1f s, %s", lease.value("seconds", 0.0),
                  lease.value("worker", "").c_str());
    text += line;
  }
  return text + "\n";
}

// The verifiers as one generator sees them: circuit, version, what waits, what was given up.
std::string RenderVerifiers(const Json& verifiers) {
  std::string text;
  for (const auto& [name, v] : verifiers.items()) {
    const Json dead = v.value("dead_letters", Json::object());
    char line[256];
    std::snprintf(line, sizeof line,
                  "    verifier %-12s %-8s %s %.12s  in flight %.0f  waiting %.0f  outages %.0f",
                  name.c_str(), v.value("state", "").c_str(), v.value("version", "").c_str(),
                  v.value("digest", "").c_str(), v.value("in_flight", 0.0), v.value("waiting", 0.0),
                  v.value("outages", 0.0));
    text += line;
    if (const double total = dead.value("total", 0.0); total > 0) {
      std::snprintf(line, sizeof line, "  dead letters %.0f", total);
      text += line;
      const Json newest = dead.value("newest", Json::array());
      if (!newest.empty()) text += ", the last: " + newest.back().value("reason", "");
    }
    text += "\n";
    if (v.contains("shadow")) {
      const Json& shadow = v["shadow"];
      std::snprintf(line, sizeof line,
                    "      beside %s: %.0f compared, %.0f differ, mean difference %+.4f",
                    shadow.value("verifier", "").c_str(), shadow.value("compared", 0.0),
                    shadow.value("differing", 0.0), shadow.value("mean_difference", 0.0));
      text += std::string(line) + "\n";
    }
  }
  return text;
}

absl::StatusOr<Json> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, size_t{16} << 20));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError(path + ": not a JSON object");
  return json;
}

std::string RedisUrl(const std::string& run_dir) {
  const auto resolved = ReadJson(run_dir + "/configs/resolved.json");
  if (!resolved.ok()) return "";
  return resolved->value("/redis/url"_json_pointer, "");
}

// "trainer waits for groups (12 of 32 ready) (3.1 s)": the first thing an operator asks.
Json WhoWaitsOnWhom(const Json& processes) {
  Json waits = Json::array();
  for (const Json& process : processes) {
    const std::string name = process["name"];
    if (!process.value("answers", false) && !process.value("alive", false)) {
      waits.push_back(name + " is not running");
      continue;
    }
    if (!process.value("answers", false)) {
      waits.push_back(name + " does not answer: " + process.value("error", ""));
      continue;
    }
    for (const auto& [reason, seconds] : process["waiting_seconds"].items()) {
      char text[32];
      std::snprintf(text, sizeof text, " (%.1f s)", seconds.get<double>());
      waits.push_back(name + " waits for " + reason + text);
    }
  }
  return waits;
}

absl::StatusOr<Json> QueryProcesses(const std::string& run_dir, double timeout_s) {
  auto endpoints = ReadJson(run_dir + "/endpoints.json");
  if (!endpoints.ok()) return Annotate(endpoints.status(), "is " + run_dir + " a run directory?");
  const std::string redis_url = RedisUrl(run_dir);
  Json status = {{"run", endpoints->value("run", "")},
                 {"run_dir", run_dir},
                 {"attempt", endpoints->value("attempt", 0)},
                 {"supervised", ProcessExists(endpoints->value("supervisor_pid", -1))},
                 {"queue", nullptr},
                 {"processes", Json::array()}};
  for (const Json& process : endpoints->value("processes", Json::array())) {
    Json entry = {{"name", process.value("name", "")},
                  {"kind", process.value("kind", "")},
                  {"pid", process.value("pid", -1)},
                  {"address", process.value("address", "")},
                  {"restarts", process.value("restarts", 0)},
                  {"alive", ProcessExists(process.value("pid", -1))}};
    const auto answer = Ask(process, redis_url, timeout_s);
    entry["answers"] = answer.ok();
    if (answer.ok()) {
      entry.update(*answer);
    } else {
      entry["error"] = std::string(answer.status().message());
    }
    // The run's, and known to the trainer alone.
    if (entry.contains("queue")) status["queue"] = entry["queue"], entry.erase("queue");
    status["processes"].push_back(std::move(entry));
  }
  status["waits"] = WhoWaitsOnWhom(status["processes"]);
  return status;
}

absl::StatusOr<Json> QueryChain(const RunConfig& chain, const std::string& run_dir,
                                double timeout_s) {
  ASSIGN_OR_RETURN(Json stages, StageStates(chain, run_dir));
  Json status = {{"attempt", 0},      {"supervised", false},        {"queue", nullptr},
                 {"stage", nullptr},  {"processes", Json::array()}, {"waits", Json::array()}};
  for (Json& stage : stages) {
    if (stage["state"] == "done") continue;
    // Before its first process there is nobody to ask.
    absl::StatusOr<Json> asked = QueryProcesses(stage["run_dir"], timeout_s);
    if (asked.ok()) status.update(*asked);
    status["stage"] = stage["name"];
    for (const Json& process : status["processes"]) {
      if (process.contains("steps"))
        stage["step"] = process["step"], stage["steps"] = process["steps"];
    }
    break;
  }
  status["run"] = chain.run.name;
  status["run_dir"] = run_dir;
  status["stages"] = std::move(stages);
  return status;
}

}  // namespace

absl::StatusOr<Json> QueryStatus(const std::string& run_dir, double timeout_s) {
  const absl::StatusOr<RunConfig> config = LoadRunConfig(run_dir + "/configs/config.json");
  if (config.ok() && !config->stages.empty()) return QueryChain(*config, run_dir, timeout_s);
  return QueryProcesses(run_dir, timeout_s);
}

std::map<std::string, EngineTime> QueryEngineTimes(const std::vector<ProcessView>& processes,
                                                   double timeout_s) {
  std::map<std::string, EngineTime> times;
  for (const ProcessView& process : processes) {
    if (process.kind != "generator" || process.pid < 0 || process.address.empty()) continue;
    const auto state = AskGenerator(MakeChannel(process.address), timeout_s);
    if (state.ok()) times[process.name] = {process.pid, state->at("busy_seconds").get<double>()};
  }
  return times;
}

std::string RenderStages(const Json& stages) {
  std::string text;
  for (const Json& stage : stages) {
    char line[256];
    std::snprintf(line, sizeof line, "  %-8s %-20s %-14s", stage.value("state", "").c_str(),
                  stage.value("name", "").c_str(), stage.value("kind", "").c_str());
    text += line;
    if (stage.contains("step")) text += "  step " + stage["step"].dump();
    if (stage.contains("steps")) text += "/" + stage["steps"].dump();
    for (const char* key : {"reason", "model", "rows"}) {
      if (stage.contains(key)) text += "  " + stage.value(key, "");
    }
    text += "\n";
  }
  return text;
}

std::string RenderStatus(const Json& status) {
  std::string text =
      status.value("run", "") + (status.value("supervised", false) ? "" : "  (not running)") + "\n";
  if (status.contains("stages")) text += RenderStages(status["stages"]);
  for (const Json& p : status["processes"]) {
    char line[256];
    const bool answers = p.value("answers", false);
    std::snprintf(line, sizeof line, "  %-16s %-12s %-22s", p.value("name", "").c_str(),
                  answers                   ? p.value("phase", "").c_str()
                  : p.value("alive", false) ? "silent"
                                            : "dead",
                  p.value("address", "").c_str());
    text += line;
    if (answers && p.contains("weight_version")) {
      text += "  version " + std::to_string(p.value("weight_version", int64_t{0}));
    }
    if (p.contains("busy_share")) {
      std::snprintf(line, sizeof line, "  busy %.0f%%", 100 * p["busy_share"].get<double>());
      text += line;
    }
    if (p.contains("step")) {
      std::snprintf(line, sizeof line, "  %s step %lld/%lld  reward %.3f  staleness %.2f",
                    p.value("run_kind", "").c_str(),
                    static_cast<long long>(p.value("step", int64_t{0})),
                    static_cast<long long>(p.value("steps", int64_t{0})),
                    p.value("mean_reward", 0.0), p.value("mean_staleness_versions", 0.0));
      text += line;
    }
    if (p.value("restarts", 0) > 0) text += "  restarts " + std::to_string(p.value("restarts", 0));
    text += "\n";
    if (p.contains("detail"))
      text += RenderVerifiers(p["detail"].value("verifiers", Json::object()));
  }
  if (status.contains("queue") && status["queue"].is_object()) text += RenderQueue(status["queue"]);
  for (const Json& wait : status["waits"]) text += "  · " + wait.get<std::string>() + "\n";
  return text;
}

int StatusCommand(const CommandContext& context, const std::string& run_dir, bool watch,
                  double interval_s) {
  constexpr double kTimeoutS = 2;
  while (true) {
    const auto status = QueryStatus(run_dir, kTimeoutS);
    if (!status.ok()) return Fail(context, "status", status.status());
    if (context.json) {
      PrintJson(*status);
    } else {
      const bool redraw = watch && ::isatty(STDOUT_FILENO);
      std::cout << (redraw ? "\033[H\033[2J" : "") << RenderStatus(*status);
    }
    std::cout.flush();
    if (!watch || !std::cout) return 0;
    std::this_thread::sleep_for(std::chrono::duration<double>(interval_s));
  }
}

}  // namespace tramontane
