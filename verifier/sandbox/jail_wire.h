// What the pool and its jail program (jail/main.cc) say to each other over one SOCK_SEQPACKET pair:
// plain structs of one build of the two, one struct a packet. Shared by both, hence no other
// include.
//
//   jail → pool   JailHello, once
//   pool → jail   JailOrder with five file descriptors, then perhaps one byte to cancel the run
//   jail → pool   JailResult, once for every order
#pragma once

#include <cstdint>

namespace tramontane {

inline constexpr uint32_t kJailWireVersion = 2;
inline constexpr int kJailSocketFd = 3;  // in the jail program
inline constexpr int kJailCgroupFd = 4;  // and up: cgroup.procs files, opened by the pool

// What stands between a program and the machine. Bits of JailHello::layers, in this order.
enum JailLayer : uint32_t {
  kLayerNoNewPrivs = 1u << 0,
  kLayerSeccomp = 1u << 1,
  kLayerRlimits = 1u << 2,
  kLayerLandlock = 1u << 3,
  kLayerUserNamespace = 1u << 4,
  kLayerPidNamespace = 1u << 5,
  kLayerMountNamespace = 1u << 6,
  kLayerNetworkNamespace = 1u << 7,
  kLayerIpcNamespace = 1u << 8,
  kLayerOwnUid = 1u << 9,  // a user of its own, or at least not root
  kLayerProcessLimit = 1u << 10,
  kLayerPidsCgroup = 1u << 11,
  kLayerMemoryCgroup = 1u << 12,
};
inline constexpr int kJailLayers = 13;
inline constexpr const char* kJailLayerNames[kJailLayers] = {
    "no_new_privs",  "seccomp",         "rlimits",           "landlock",      "user_namespace",
    "pid_namespace", "mount_namespace", "network_namespace", "ipc_namespace", "own_uid",
    "process_limit", "pids_cgroup",     "memory_cgroup"};

struct JailHello {
  uint32_t version;
  uint32_t ready;   // 0: `message` says what failed, and the jail program ends
  uint32_t layers;  // cgroups aside, which the pool knows about
  int32_t landlock_abi;
  char message[400];
};

enum class JailProfile : uint32_t {
  kProgram,   // one process; nothing but computing, its three streams and its scratch folder
  kCompiler,  // may start processes; leaves one file, kJailResultName, in its scratch folder
};
inline constexpr char kJailResultName[] = "result";

struct JailOrder {
  JailProfile profile;
  uint32_t executes_program_fd;  // 1: run file descriptor `program`; 0: the file argv[0]
  uint32_t has_tree;             // kProgram: 1: `extra` holds files to start among (file_tree.h)
  uint32_t cpu_ms, wall_ms;
  uint64_t memory_bytes;   // address space of one process
  uint64_t scratch_bytes;  // of the scratch folder, and of any one file
  uint32_t threads;        // tasks of all kinds
  uint32_t argc;
  uint32_t text_bytes;
  char text[16384];  // argv, each ended by a zero byte
};
// In this order: standard input, output and error; the program; and `extra`: a file for the
// compiler's result, or the file tree of a program.
inline constexpr int kJailOrderFds = 5;

// A file tree is a sequence of these, each followed by its path and its content.
struct TreeEntry {
  uint32_t path_bytes, content_bytes;
};

enum class JailEnd : uint32_t {
  kExited,     // code: exit status
  kSignalled,  // code: signal number
  kCpuLimit,
  kWallLimit,
  kCancelled,
  kFault,  // the jail could not do its work; message says what. Never the program's doing.
};

struct JailResult {
  JailEnd end;
  int32_t code;
  uint64_t cpu_us, wall_us;
  uint64_t run_queue_us;  // of wall_us: the main thread could have run but the machine was busy
  uint64_t peak_memory_bytes;
  uint64_t result_bytes;  // of the compiler's result; 0: none
  uint32_t killed;        // processes that were still there at the end
  char message[200];
};

}  // namespace tramontane
