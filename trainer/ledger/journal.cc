#include "trainer/ledger/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <utility>

#include "common/files.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr uint32_t kFormatVersion = 1;
// A line is the record as JSON with this last member, the SHA-256 of the JSON without it.
constexpr std::string_view kHashMember = ",\"hash\":\"";
constexpr size_t kHashDigits = 64;
constexpr size_t kTrailerBytes = kHashMember.size() + kHashDigits + 2;  // "}

std::string Payload(const JournalRecord& record, const std::string& previous) {
  Json json = {{"v", record.format_version}, {"kind", record.kind}, {"epoch", record.epoch},
               {"step", record.step},        {"prev", previous}};
  if (!record.gids.empty()) json["gids"] = record.gids;
  if (!record.blobs.empty()) json["blobs"] = record.blobs;
  if (!record.cursors.empty()) json["cursors"] = record.cursors;
  if (!record.detail.empty()) json["detail"] = record.detail;
  return json.dump();
}

std::string Line(const std::string& payload, const std::string& hash) {
  std::string line = payload;
  line.pop_back();
  line += kHashMember;
  line += hash;
  line += "\"}\n";
  return line;
}

struct Parsed {
  JournalRecord record;
  std::string previous, hash;
};

absl::StatusOr<Parsed> ParseLine(std::string_view line) {
  if (line.size() < kTrailerBytes) return absl::DataLossError("too short to be a record");
  const size_t cut = line.size() - kTrailerBytes;
  Parsed parsed;
  parsed.hash = std::string(line.substr(cut + kHashMember.size(), kHashDigits));
  std::string payload(line.substr(0, cut));
  payload += '}';
  if (line.substr(cut, kHashMember.size()) != kHashMember || line.substr(line.size() - 2) != "\"}" ||
      Sha256Hex(payload) != parsed.hash) {
    return absl::DataLossError("its hash does not match its content");
  }
  // The hash holds, so what follows is as it was written; only a foreign version can surprise.
  const Json json = Json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("v", 0u) != kFormatVersion) {
    return absl::DataLossError("format version is not " + std::to_string(kFormatVersion));
  }
  JournalRecord& record = parsed.record;
  record.format_version = json.at("v").get<uint32_t>();
  record.kind = json.at("kind").get<std::string>();
  record.epoch = json.at("epoch").get<int64_t>();
  record.step = json.at("step").get<int64_t>();
  record.gids = json.value("gids", std::vector<std::string>());
  record.blobs = json.value("blobs", std::vector<std::string>());
  record.cursors = json.value("cursors", std::vector<uint64_t>());
  record.detail = json.value("detail", Json::object());
  parsed.previous = json.at("prev").get<std::string>();
  return parsed;
}

struct Scan {
  std::vector<JournalRecord> records;
  std::vector<std::string> hashes;
  size_t good_bytes = 0;  // up to the torn tail, if there is one
};

absl::StatusOr<Scan> Verify(const std::string& path, std::string_view bytes) {
  Scan scan;
  while (scan.good_bytes < bytes.size()) {
    const size_t end = bytes.find('\n', scan.good_bytes);
    if (end == std::string_view::npos) break;  // torn: a record ends with its newline
    absl::StatusOr<Parsed> parsed = ParseLine(bytes.substr(scan.good_bytes, end - scan.good_bytes));
    const std::string where = path + ":" + std::to_string(scan.records.size() + 1);
    if (!parsed.ok()) return Annotate(parsed.status(), where);
    const std::string expected = scan.hashes.empty() ? "" : scan.hashes.back();
    if (parsed->previous != expected) {
      return absl::DataLossError(where + ": does not follow the record before it");
    }
    scan.records.push_back(std::move(parsed->record));
    scan.hashes.push_back(std::move(parsed->hash));
    scan.good_bytes = end + 1;
  }
  return scan;
}

}  // namespace

struct Journal::Impl {
  std::string path;
  int fd = -1;
  Scan scan;
  int64_t size = 0;
  std::string head;
  off_t end = 0;         // bytes of whole records
  absl::Status broken;   // set by a failed fsync

  ~Impl() {
    if (fd >= 0) ::close(fd);
  }
  absl::Status Write(std::string_view bytes);
};

absl::Status Journal::Impl::Write(std::string_view bytes) {
  off_t at = end;
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const absl::Status failed = ErrnoStatus(n < 0 ? errno : ENOSPC, path);
      if (::ftruncate(fd, end) != 0) broken = ErrnoStatus(errno, path);
      return failed;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
    at += n;
  }
  end = at;
  return absl::OkStatus();
}

Journal::Journal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Journal::~Journal() = default;

absl::StatusOr<std::vector<JournalRecord>> Journal::Read(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(Scan scan, Verify(path, bytes));
  return std::move(scan.records);
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (impl->fd < 0) return ErrnoStatus(errno, path);
  if (::flock(impl->fd, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(path + ": another trainer is using this run directory");
  }
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(impl->scan, Verify(path, bytes));
  impl->end = static_cast<off_t>(impl->scan.good_bytes);
  if (impl->scan.good_bytes < bytes.size()) {
    LogWarn("journal_torn_tail_cut", {{"path", path}, {"bytes", bytes.size() - impl->scan.good_bytes}});
    if (::ftruncate(impl->fd, impl->end) != 0) return ErrnoStatus(errno, path);
  }
  if (::fsync(impl->fd) != 0) return ErrnoStatus(errno, path);
  RETURN_IF_ERROR(FsyncDir(std::filesystem::path(path).parent_path().string()));
  impl->size = static_cast<int64_t>(impl->scan.records.size());
  if (!impl->scan.hashes.empty()) impl->head = impl->scan.hashes.back();
  return std::unique_ptr<Journal>(new Journal(std::move(impl)));
}

absl::Status Journal::Append(const JournalRecord& record, bool durable) {
  RETURN_IF_ERROR(impl_->broken);
  const std::string payload = Payload(record, impl_->head);
  const std::string hash = Sha256Hex(payload);
  RETURN_IF_ERROR(impl_->Write(Line(payload, hash)));
  impl_->head = hash;
  ++impl_->size;
  if (durable && ::fdatasync(impl_->fd) != 0) {
    impl_->broken = ErrnoStatus(errno, impl_->path);
    return impl_->broken;
  }
  return absl::OkStatus();
}

const std::vector<JournalRecord>& Journal::records() const { return impl_->scan.records; }
int64_t Journal::size() const { return impl_->size; }
std::string Journal::head() const { return impl_->head; }

bool Journal::Contains(int64_t size, const std::string& head) const {
  if (size == 0) return head.empty();
  return size > 0 && size <= static_cast<int64_t>(impl_->scan.hashes.size()) &&
         impl_->scan.hashes[static_cast<size_t>(size - 1)] == head;
}

}  // namespace tramontane
