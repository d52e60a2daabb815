#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

namespace tramontane {
namespace {

bool NeedsQuotes(const std::string& value) {
  return value.empty() || value.find_first_of(" \t\n\"=") != std::string::npos;
}

void Write(spdlog::level::level_enum level, std::string_view event, LogFields fields) {
  if (!spdlog::should_log(level)) return;
  std::string line(event);
  for (const LogField& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    line += NeedsQuotes(field.value) ? nlohmann::json(field.value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) : field.value;
  }
  spdlog::log(level, "{}", line);
}

}  // namespace

void InitLogging(const std::string& process_name) {
  auto logger = spdlog::stderr_logger_mt(process_name);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n %l %v");
  const char* level = std::getenv("TRAMONTANE_LOG");
  logger->set_level(level != nullptr ? spdlog::level::from_str(level) : spdlog::level::info);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
}

void LogInfo(std::string_view event, LogFields fields) { Write(spdlog::level::info, event, fields); }
void LogWarn(std::string_view event, LogFields fields) { Write(spdlog::level::warn, event, fields); }
void LogError(std::string_view event, LogFields fields) { Write(spdlog::level::err, event, fields); }

}  // namespace tramontane
