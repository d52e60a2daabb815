#include "services/tool_main.h"

#include <CLI/CLI.hpp>
#include <algorithm>

namespace tramontane {
namespace {

// Documents on standard input are prompts and token lists; anything larger is a mistake.
constexpr size_t kMaxInputBytes = size_t{1} << 30;

using OrderedJson = nlohmann::ordered_json;

absl::StatusOr<OrderedJson> ReadDocument(std::istream& in) {
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof(buffer)), in.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxInputBytes) return absl::InvalidArgumentError("more than 1 GiB of input");
  }
  OrderedJson document = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return absl::InvalidArgumentError("not a JSON document");
  return document;
}

// "bench generate" of `tramontane-generator bench generate --batch 1`.
std::string SubcommandsOf(const CLI::App& app, int argc, const char* const* argv) {
  std::string names;
  const CLI::App* at = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto found =
        at->get_subcommands([&](const CLI::App* command) { return command->get_name() == name; });
    if (found.empty()) break;
    at = found.front();
    names += (names.empty() ? "" : " ") + name;
  }
  return names;
}

}  // namespace

std::optional<int> ParseArguments(CLI::App& app, int argc, const char* const* argv,
                                  std::ostream& out, std::ostream& err) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error, out, err);  // --help, --version
    std::string where = SubcommandsOf(app, argc, argv);
    std::string message = error.what();
    if (where.empty() && argc > 1 && argv[1][0] != '-') {
      where = argv[1];
      message = "there is no command '" + where + "'; see --help";
    }
    const bool json = std::any_of(
        argv, argv + argc, [](const char* argument) { return std::string(argument) == "--json"; });
    if (json) {
      PrintDocument(out, ErrorDocument(where, absl::InvalidArgumentError(message)));
    } else {
      err << "tramontane" << (where.empty() ? "" : " " + where) << ": " << message << std::endl;
    }
    return 1;
  }
}

Json ErrorDocument(const std::string& where, const absl::Status& status) {
  return {{"error",
           {{"code", absl::StatusCodeToString(status.code())},
            {"message", std::string(status.message())},
            {"where", where}}}};
}

void PrintDocument(std::ostream& out, const Json& document) {
  out << document.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
}

int PrintJsonResult(const std::string& where, std::ostream& out,
                    const absl::StatusOr<Json>& result) {
  PrintDocument(out, result.ok() ? *result : ErrorDocument(where, result.status()));
  return result.ok() ? 0 : 1;
}

int RunJsonTool(const std::string& where, std::istream& in, std::ostream& out,
                const std::function<absl::StatusOr<Json>(const OrderedJson&)>& tool) {
  const absl::StatusOr<OrderedJson> input = ReadDocument(in);
  if (!input.ok()) return PrintJsonResult(where + ": standard input", out, input.status());
  return PrintJsonResult(where, out, tool(*input));
}

}  // namespace tramontane
