// System calls that must fail, whatever their arguments: made raw, past every library.
#include "tests/unit/sandbox/attacks.h"

namespace tramontane {
namespace {

struct Call {
  const char* name;
  const char* arguments;  // number first, of x86-64
};

constexpr Call kCalls[] = {{"io_uring_setup", "425, 8, b"},
                           {"io_uring_enter", "426, 0, 0, 0, 0, 0, 0"},
                           {"userfaultfd", "323, 1"},
                           {"bpf", "321, 0, b, 64"},
                           {"keyctl", "250, 0, -3, 1"},
                           {"add_key", "248, b'user', b'x', b'y', 1, -3"},
                           {"request_key", "249, b'user', b'x', 0, -3"},
                           {"perf_event_open", "298, b, 0, -1, -1, 0"},
                           {"unshare_user", "272, 0x10000000"},
                           {"unshare_net", "272, 0x40000000"},
                           {"unshare_pid", "272, 0x20000000"},
                           {"unshare_mount", "272, 0x00020000"},
                           {"unshare_ipc", "272, 0x08000000"},
                           {"unshare_uts", "272, 0x04000000"},
                           {"unshare_cgroup", "272, 0x02000000"},
                           {"unshare_files", "272, 0x400"},
                           {"setns", "308, 0, 0"},
                           {"clone_user", "56, 0x10000011, 0, 0, 0, 0"},
                           {"clone_thread_newuser", "56, 0x10010f00, 0, 0, 0, 0"},
                           {"mount", "165, b'none', b'/tmp', b'tmpfs', 0, 0"},
                           {"umount", "166, b'/tmp', 2"},
                           {"pivot_root", "155, b'/tmp', b'/tmp'"},
                           {"chroot", "161, b'/tmp'"},
                           {"init_module", "175, b, 10, b''"},
                           {"finit_module", "313, 0, b'', 0"},
                           {"delete_module", "176, b'x', 0"},
                           {"kexec_load", "246, 0, 0, 0, 0"},
                           {"reboot", "169, 0xfee1dead, 672274793, 0, 0"},
                           {"swapon", "167, b'/tmp', 0"},
                           {"sethostname", "170, b'x', 1"},
                           {"setdomainname", "171, b'x', 1"},
                           {"setuid", "105, 0"},
                           {"setgid", "106, 0"},
                           {"setresuid", "117, 0, 0, 0"},
                           {"setgroups", "116, 0, 0"},
                           {"capset", "126, b, b"},
                           {"personality", "135, 0x0040000"},
                           {"memfd_create", "319, b'x', 0"},
                           {"memfd_secret", "447, 0"},
                           {"fanotify_init", "300, 0, 0"},
                           {"inotify_init", "294, 0"},
                           {"open_by_handle", "304, -100, b, 0"},
                           {"name_to_handle", "303, -100, b'/usr', b, b, 0"},
                           {"quotactl", "179, 0, 0, 0, 0"},
                           {"acct", "163, b'/tmp/x'"},
                           {"iopl", "172, 3"},
                           {"ioperm", "173, 0, 8, 1"},
                           {"modify_ldt", "154, 0, b, 16"},
                           {"syslog", "103, 3, b, 64"},
                           {"settimeofday", "164, b, 0"},
                           {"clock_settime", "227, 0, b"},
                           {"adjtimex", "159, b"},
                           {"move_mount", "429, -100, b'/', -100, b'/', 0"},
                           {"open_tree", "428, -100, b'/', 1"},
                           {"fsopen", "430, b'tmpfs', 0"},
                           {"fsmount", "432, 0, 0, 0"},
                           {"mount_setattr", "442, -100, b'/', 0, b, 32"},
                           {"landlock_ruleset", "444, 0, 0, 1"},
                           {"seccomp", "317, 1, 0, 0"},
                           {"seccomp_by_prctl", "157, 22, 1, 0, 0, 0"},
                           {"keep_capabilities", "157, 8, 1, 0, 0, 0"},
                           {"ambient", "157, 47, 2, 0, 0, 0"},
                           {"mq_open", "240, b'trespass-litter', 0o102, 0o600, 0"},
                           {"shmget", "29, 0x7e5, 4096, 0o1666"},
                           {"semget", "64, 0x7e5, 1, 0o1666"},
                           {"msgget", "68, 0x7e5, 0o1666"},
                           {"kcmp", "312, 1, 1, 0, 0, 0"},
                           {"pidfd_open", "434, 1, 0"},
                           {"pidfd_getfd", "438, 0, 0, 0"},
                           {"process_madvise", "440, 0, 0, 0, 0, 0"},
                           {"io_setup", "206, 8, b"},
                           {"timerfd", "283, 0, 0"},
                           {"signalfd", "289, -1, b, 8, 0"},
                           {"splice", "275, 0, 0, 1, 0, 10, 0"},
                           {"vmsplice", "278, 1, b, 1, 0"},
                           {"tee", "276, 0, 1, 10, 0"},
                           {"mlockall", "151, 3"},
                           {"mlock", "149, b, 4096"},
                           {"sched_setscheduler", "144, 0, 1, b"},
                           {"setpriority", "141, 0, 0, -5"},
                           {"mknod", "133, b'/tmp/n', 0o20666, 0x103"},
                           {"openat2", "437, -100, b'/usr', b, 24"},
                           {"vhangup", "153"},
                           {"ustat", "136, 0x103, b"},
                           {"remap_file_pages", "216, 0, 0, 0, 0, 0"},
                           {"socket", "41, 2, 1, 0"},
                           {"socketpair", "53, 1, 1, 0, b"},
                           {"execve", "59, b'/bin/sh', 0, 0"},
                           {"fork", "57"},
                           {"vfork", "58"},
                           {"setsid", "112"},
                           {"timer_create", "222, 0, 0, b"},
                           {"set_mempolicy", "238, 0, 0, 0"}};

}  // namespace

std::vector<Attack> SystemCallAttacks(const Targets&) {
  std::vector<Attack> attacks;
  for (const Call& call : kCalls) {
    attacks.push_back({std::string("syscall/") + call.name, "python",
                       std::string("import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
                                   "b = ctypes.create_string_buffer(4096)\nr = libc.syscall(") +
                           call.arguments +
                           ")\nos.write(1, b'TRESPASS' if r >= 0 else b'refused')\n"});
  }
  return attacks;
}

}  // namespace tramontane
