// Verdicts per second of the math grader: alone, and through the verifier service.
//   verify_bench                       single calls over the agreement table: median, p99, longest
//   verify_bench HOST:PORT [requests]  VerifyStream of a running `tramontane-verifier serve`
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "tests/support/source_file.h"
#include "tramontane/v1/verifier.grpc.pb.h"
#include "verifier/math/answer.h"

namespace tramontane {
namespace {

struct Row {
  std::string gold, answer;
  bool plain = false;
};

std::vector<Row> ReadRows() {
  std::ifstream in(SourceFile("tests/golden/verifier/agreement.jsonl"));
  std::vector<Row> rows;
  for (std::string line; std::getline(in, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    rows.push_back({row["gold"], row["answer"],
                    row["kind"] == "integers" || row["kind"] == "generated integers"});
  }
  return rows;
}

void Print(const char* what, std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  std::printf("%s: %zu pairs, median %.1f us, p99 %.3f ms, longest %.3f ms\n", what, seconds.size(),
              seconds[seconds.size() / 2] * 1e6, seconds[seconds.size() * 99 / 100] * 1e3,
              seconds.back() * 1e3);
}

void TimeCalls(const std::vector<Row>& rows) {
  std::vector<double> plain, all;
  for (int round = 0; round < 5; ++round) {
    for (const Row& row : rows) {
      const auto start = std::chrono::steady_clock::now();
      math::SameMathAnswer(row.gold, row.answer);
      all.push_back(SecondsSince(start));
      if (row.plain) plain.push_back(all.back());
    }
  }
  Print("plain numbers", std::move(plain));
  Print("all kinds", std::move(all));
}

int TimeService(const std::string& address, const std::vector<Row>& rows, int requests) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  const auto stub = v1::Verifier::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->VerifyStream(&context);
  // A service remembers its verdicts by id; a second run must not be answered from memory.
  const std::string prefix = "bench-" + std::to_string(SystemClock().NowUnixMs()) + "/";
  const auto start = std::chrono::steady_clock::now();
  std::thread writer([&] {
    for (int i = 0; i < requests; ++i) {
      const Row& row = rows[static_cast<size_t>(i) % rows.size()];
      v1::VerifyRequest request;
      request.set_request_id(prefix + std::to_string(i));
      request.set_completion("<think>thoughts of some length, as they are</think>so \\boxed{" +
                             row.answer + "}");
      request.set_answer(row.gold);
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
  });
  int answered = 0, scored = 0;
  v1::VerifyResult result;
  while (stream->Read(&result)) {
    ++answered;
    scored += result.status() == v1::VERIFY_STATUS_SCORED;
  }
  writer.join();
  const grpc::Status status = stream->Finish();
  const double seconds = SecondsSince(start);
  std::printf("%d requests, %d answered, %d scored in %.2f s: %.0f verdicts/s%s%s\n", requests,
              answered, scored, seconds, answered / seconds, status.ok() ? "" : "; ",
              status.error_message().c_str());
  return status.ok() && answered == requests ? 0 : 1;
}

int Main(int argc, char** argv) {
  const std::vector<Row> rows = ReadRows();
  if (argc < 2) {
    TimeCalls(rows);
    return 0;
  }
  return TimeService(argv[1], rows, argc > 2 ? std::atoi(argv[2]) : 20000);
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
