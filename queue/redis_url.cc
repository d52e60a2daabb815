#include "queue/redis_url.h"

#include <charconv>
#include <optional>
#include <string_view>

namespace tramontane {
namespace {

constexpr std::string_view kTcp = "redis://";
constexpr std::string_view kUnix = "unix://";

absl::Status Bad(const std::string& why) {
  return absl::InvalidArgumentError(
      "redis.url: " + why + "; expected redis://[user:password@]host[:port][/db] or unix:///path[?db=n]");
}

std::optional<int> ToInt(std::string_view text, int low, int high) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) {
    return std::nullopt;
  }
  return value;
}

absl::Status ParseQuery(std::string_view query, RedisUrl& url) {
  while (!query.empty()) {
    const size_t end = query.find('&');
    const std::string_view item = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
    const size_t equals = item.find('=');
    const std::string_view key = item.substr(0, equals);
    const std::string_view value = equals == std::string_view::npos ? "" : item.substr(equals + 1);
    if (key == "db") {
      const std::optional<int> database = ToInt(value, 0, 1 << 20);
      if (!database) return Bad("db is not a number");
      url.database = *database;
    } else if (key == "password") {
      url.password = std::string(value);
    } else {
      return Bad("unknown parameter '" + std::string(key) + "'");
    }
  }
  return absl::OkStatus();
}

absl::Status ParseTcp(std::string_view rest, RedisUrl& url) {
  if (const size_t at = rest.rfind('@'); at != std::string_view::npos) {
    const std::string_view credentials = rest.substr(0, at);
    rest = rest.substr(at + 1);
    const size_t colon = credentials.find(':');
    if (colon == std::string_view::npos) return Bad("credentials need the form user:password@");
    url.user = std::string(credentials.substr(0, colon));
    url.password = std::string(credentials.substr(colon + 1));
  }
  if (const size_t slash = rest.find('/'); slash != std::string_view::npos) {
    const std::string_view database = rest.substr(slash + 1);
    rest = rest.substr(0, slash);
    if (!database.empty()) {
      const std::optional<int> number = ToInt(database, 0, 1 << 20);
      if (!number) return Bad("database is not a number");
      url.database = *number;
    }
  }
  // [::1]:6379 has colons of its own.
  size_t colon = rest.rfind(':');
  if (!rest.empty() && rest.front() == '[') {
    const size_t close = rest.find(']');
    if (close == std::string_view::npos) return Bad("missing ]");
    colon = close + 1 < rest.size() ? close + 1 : std::string_view::npos;
    url.host = std::string(rest.substr(1, close - 1));
  } else {
    url.host = std::string(rest.substr(0, colon));
  }
  if (colon != std::string_view::npos) {
    const std::optional<int> port = ToInt(rest.substr(colon + 1), 1, 65535);
    if (!port) return Bad("port is not a number from 1 to 65535");
    url.port = *port;
  }
  if (url.host.empty()) return Bad("no host");
  return absl::OkStatus();
}

}  // namespace

std::string RedisUrl::Printable() const {
  if (!unix_path.empty()) return "unix://" + unix_path;
  return "redis://" + host + ":" + std::to_string(port) + "/" + std::to_string(database);
}

absl::StatusOr<RedisUrl> ParseRedisUrl(const std::string& text) {
  RedisUrl url;
  const std::string_view view = text;
  absl::Status status;
  if (view.substr(0, kTcp.size()) == kTcp) {
    status = ParseTcp(view.substr(kTcp.size()), url);
  } else if (view.substr(0, kUnix.size()) == kUnix) {
    const std::string_view rest = view.substr(kUnix.size());
    const size_t question = rest.find('?');
    url.unix_path = std::string(rest.substr(0, question));
    if (url.unix_path.empty() || url.unix_path.front() != '/') return Bad("the socket path is not absolute");
    if (question != std::string_view::npos) status = ParseQuery(rest.substr(question + 1), url);
  } else {
    status = Bad("unknown scheme");
  }
  if (!status.ok()) return status;
  return url;
}

}  // namespace tramontane
