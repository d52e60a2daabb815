#include "verifier/sandbox/cxx_header.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "common/files.h"
#include "common/hash.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr char kHeader[] = "bits/stdc++.h";

// Changes when the compiler does.
absl::StatusOr<std::string> Fingerprint(const std::string& compiler) {
  struct stat info;
  if (stat(compiler.c_str(), &info) != 0) {
    return absl::NotFoundError("sandbox.cxx: " + compiler + ": not there");
  }
  std::string text = compiler + " " + std::to_string(info.st_size) + " " +
                     std::to_string(info.st_mtim.tv_sec) + " " + std::to_string(info.st_ino);
  for (const std::string& flag : CxxFlags()) text += " " + flag;
  return Sha256Hex(text).substr(0, 16);
}

// A folder of ours that nobody else can write to.
absl::Status CheckOwned(const std::string& folder) {
  struct stat info;
  if (lstat(folder.c_str(), &info) != 0) return ErrnoStatus(errno, folder);
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 022) != 0) {
    return absl::FailedPreconditionError(folder + ": belongs to somebody else; remove it");
  }
  return absl::OkStatus();
}

absl::Status Compile(const std::string& compiler, const std::string& output) {
  std::vector<std::string> argv = {compiler, "-x", "c++-header"};
  for (const std::string& flag : CxxFlags()) argv.push_back(flag);
  const std::string source = output + ".in";  // g++ takes no header from its standard input
  argv.insert(argv.end(), {"-o", output, source});
  std::vector<char*> pointers;
  for (std::string& argument : argv) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  RETURN_IF_ERROR(WriteFileAtomic(source, "#include <bits/stdc++.h>\n"));
  char path[] = "PATH=/usr/bin:/bin";
  char* environment[] = {path, nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, compiler.c_str(), &actions, nullptr, pointers.data(), environment);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoStatus(error, compiler);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  unlink(source.c_str());
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return absl::InternalError("sandbox.cxx: " + compiler + " cannot compile <" + kHeader + ">");
  }
  return absl::OkStatus();
}

absl::Status Make(const std::string& compiler, const std::string& folder) {
  std::string temporary = folder + ".XXXXXX";
  if (!mkdtemp(temporary.data())) return ErrnoStatus(errno, temporary);
  std::error_code error;
  std::filesystem::create_directory(temporary + "/bits", error);
  const std::string output = temporary + "/" + kHeader + ".gch";
  absl::Status made = Compile(compiler, output);
  // Jails have users of their own.
  if (made.ok() &&
      (chmod(temporary.c_str(), 0755) != 0 || chmod((temporary + "/bits").c_str(), 0755) != 0 ||
       chmod(output.c_str(), 0644) != 0 ||
       (rename(temporary.c_str(), folder.c_str()) != 0 && errno != EEXIST && errno != ENOTEMPTY))) {
    made = ErrnoStatus(errno, folder);
  }
  std::filesystem::remove_all(temporary, error);
  return made;
}

}  // namespace

std::vector<std::string> CxxFlags() { return {"-std=gnu++20", "-O2", "-w"}; }

absl::StatusOr<std::string> PrecompiledHeaderDir(const std::string& compiler) {
  ASSIGN_OR_RETURN(const std::string fingerprint, Fingerprint(compiler));
  const std::string folder =
      "/var/tmp/tramontane-headers-" + std::to_string(geteuid()) + "-" + fingerprint;
  if (access(folder.c_str(), F_OK) != 0) RETURN_IF_ERROR(Make(compiler, folder));
  RETURN_IF_ERROR(CheckOwned(folder));
  return folder;
}

}  // namespace tramontane
