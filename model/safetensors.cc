#include "model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "common/files.h"
#include "common/status.h"

namespace tramontane {

namespace {

using Json = nlohmann::json;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "safetensors are little-endian, and read in place");

constexpr uint64_t kLengthBytes = 8;

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError("safetensors: " + what);
}

// nlohmann keeps the last of two equal keys; a file that has two is refused instead.
absl::StatusOr<Json> ParseWithoutDuplicates(std::string_view text) {
  std::vector<std::set<std::string>> open_objects;
  std::string duplicate;
  const auto callback = [&](int /*depth*/, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key &&
        !open_objects.back().insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  Json json = Json::parse(text.begin(), text.end(), callback, /*allow_exceptions=*/false);
  if (!duplicate.empty()) return Damaged("'" + duplicate + "' is listed twice");
  if (!json.is_object()) return Damaged("the header is not a JSON object");
  return json;
}

bool IsSize(const Json& value) {
  return value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
}

absl::StatusOr<SafetensorsEntry> ParseEntry(const std::string& name, const Json& json) {
  const std::string where = "tensor '" + name + "': ";
  if (!json.is_object()) return Damaged(where + "not an object");
  const auto field = [&](const char* key) { return json.contains(key) ? json[key] : Json(); };
  const Json dtype = field("dtype"), shape = field("shape"), offsets = field("data_offsets");
  if (!dtype.is_string()) return Damaged(where + "no dtype");
  SafetensorsEntry entry;
  entry.dtype = dtype.get<std::string>();
  uint64_t bytes = SafetensorsElementBytes(entry.dtype);
  if (bytes == 0) return Damaged(where + "unsupported dtype '" + entry.dtype + "'");
  if (!shape.is_array()) return Damaged(where + "no shape");
  for (const Json& extent : shape) {
    if (!IsSize(extent) || extent.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      return Damaged(where + "a shape must consist of sizes");
    }
    entry.shape.push_back(extent.get<int64_t>());
    if (__builtin_mul_overflow(bytes, extent.get<uint64_t>(), &bytes)) {
      return Damaged(where + "its shape overflows");
    }
  }
  if (!offsets.is_array() || offsets.size() != 2 || !IsSize(offsets[0]) || !IsSize(offsets[1])) {
    return Damaged(where + "data_offsets must be two sizes");
  }
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  if (end < begin || end - begin != bytes) {
    return Damaged(where + "its offsets span " + std::to_string(end < begin ? 0 : end - begin) +
                   " bytes, dtype and shape need " + std::to_string(bytes));
  }
  entry.offset_bytes = begin;
  entry.size_bytes = bytes;
  return entry;
}

absl::Status CheckCoverage(const SafetensorsHeader& header, uint64_t data_bytes) {
  std::vector<std::pair<uint64_t, const std::string*>> order;
  for (const auto& [name, entry] : header.tensors) order.emplace_back(entry.offset_bytes, &name);
  std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    // Empty tensors share their offset with the next one and come first.
    return std::pair(a.first, header.tensors.at(*a.second).size_bytes) <
           std::pair(b.first, header.tensors.at(*b.second).size_bytes);
  });
  uint64_t end = 0;
  for (const auto& [offset, name] : order) {
    if (offset != end) {
      return Damaged("tensor '" + *name + "' " +
                     (offset < end ? "overlaps another" : "leaves a hole before it"));
    }
    if (__builtin_add_overflow(end, header.tensors.at(*name).size_bytes, &end) ||
        end > data_bytes) {
      return Damaged("tensor '" + *name + "' reaches beyond the end of the file");
    }
  }
  if (end != data_bytes) {
    return Damaged("the tensors cover " + std::to_string(end) + " of " +
                   std::to_string(data_bytes) + " data bytes");
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t SafetensorsElementBytes(const std::string& dtype) {
  if (dtype == "F64") return 8;
  if (dtype == "F32") return 4;
  if (dtype == "F16" || dtype == "BF16") return 2;
  return 0;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view prefix,
                                                         uint64_t file_bytes) {
  if (file_bytes < kLengthBytes || prefix.size() < kLengthBytes)
    return Damaged("too short for a header");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, prefix.data(), kLengthBytes);
  if (header_bytes > kMostSafetensorsHeaderBytes) {
    return Damaged("the header claims " + std::to_string(header_bytes) + " bytes");
  }
  if (header_bytes > file_bytes - kLengthBytes || header_bytes > prefix.size() - kLengthBytes) {
    return Damaged("the file ends inside its header");
  }
  ASSIGN_OR_RETURN(const Json json,
                   ParseWithoutDuplicates(prefix.substr(kLengthBytes, header_bytes)));
  SafetensorsHeader header;
  header.data_offset_bytes = kLengthBytes + header_bytes;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) return Damaged("__metadata__ is not an object");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) return Damaged("__metadata__ must map strings to strings");
        header.metadata[key] = text.get<std::string>();
      }
      continue;
    }
    ASSIGN_OR_RETURN(header.tensors[name], ParseEntry(name, value));
  }
  RETURN_IF_ERROR(CheckCoverage(header, file_bytes - header.data_offset_bytes));
  return header;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path);
  struct stat info;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    const int error = errno;
    ::close(fd);
    return S_ISREG(info.st_mode) ? ErrnoStatus(error, path)
                                 : absl::InvalidArgumentError(path + ": not a regular file");
  }
  const uint64_t bytes = static_cast<uint64_t>(info.st_size);
  if (bytes < kLengthBytes) {
    ::close(fd);
    return Annotate(Damaged("too short for a header"), path);
  }
  void* mapping = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (mapping == MAP_FAILED) return ErrnoStatus(error, path);
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile(mapping, bytes));
  auto header =
      ParseSafetensorsHeader(std::string_view(static_cast<const char*>(mapping), bytes), bytes);
  if (!header.ok()) return Annotate(header.status(), path);
  file->header_ = *std::move(header);
  return file;
}

SafetensorsFile::~SafetensorsFile() { ::munmap(mapping_, bytes_); }

const void* SafetensorsFile::Data(const SafetensorsEntry& entry) const {
  return static_cast<const char*>(mapping_) + header_.data_offset_bytes + entry.offset_bytes;
}

absl::Status WriteSafetensors(const std::string& path,
                              const std::vector<SafetensorsTensor>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  for (const auto& [key, text] : metadata) header["__metadata__"][key] = text;
  uint64_t offset = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.size_bytes}}};
    offset += tensor.size_bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string file(kLengthBytes + text.size() + offset, '\0');
  std::memcpy(file.data(), &length, kLengthBytes);
  std::memcpy(file.data() + kLengthBytes, text.data(), text.size());
  char* to = file.data() + kLengthBytes + text.size();
  for (const SafetensorsTensor& tensor : tensors) {
    std::memcpy(to, tensor.data, tensor.size_bytes);
    to += tensor.size_bytes;
  }
  return WriteFileAtomic(path, file);
}

}  // namespace tramontane
