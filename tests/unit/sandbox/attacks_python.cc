#include "tests/unit/sandbox/attacks.h"

namespace tramontane {
namespace {

struct Variation {
  std::string name, text;
};

std::string Replaced(std::string text, const std::string& what, const std::string& by) {
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
  return text;
}

// Python in which TARGET stands for the outside world.
std::string Aimed(const std::string& source, const Targets& t) {
  std::string aimed = source;
  for (const auto& [name, value] : std::vector<Variation>{{"FOLDER", t.folder},
                                                          {"SECRET_FILE", t.secret_file},
                                                          {"UNIX_SOCKET", t.unix_socket},
                                                          {"ABSTRACT", t.abstract_socket},
                                                          {"TCP_PORT", std::to_string(t.tcp_port)},
                                                          {"UDP_PORT", std::to_string(t.udp_port)},
                                                          {"JUDGE_PID", std::to_string(t.pid)},
                                                          {"LITTER", kLitter}}) {
    aimed = Replaced(aimed, "$" + name, value);
  }
  return aimed;
}

// Defines trespass(what): what success says. Attacks may raise whatever they like.
constexpr char kPreamble[] =
    "import os, sys, time, ctypes, signal, threading\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def trespass(what): os.write(1, ('TRESPASS ' + str(what)[:200]).encode())\n";

class Family {
 public:
  Family(const Targets& targets, std::vector<Attack>& attacks)
      : targets_(targets), attacks_(attacks) {}

  void Add(const std::string& family, const std::vector<Variation>& variations) {
    Add(family, "$X", variations);
  }
  // $X in `pattern` stands for the variation.
  void Add(const std::string& family, const std::string& pattern,
           const std::vector<Variation>& variations) {
    for (const Variation& v : variations) {
      attacks_.push_back({family + "/" + v.name, "python",
                          kPreamble + Aimed(Replaced(pattern, "$X", v.text), targets_)});
    }
  }

 private:
  const Targets& targets_;
  std::vector<Attack>& attacks_;
};

// Ways to get a second process, each with something for it to do.
void AddProcesses(Family& f) {
  const std::vector<Variation> ways = {{"fork", "pid = os.fork()"},
                                       {"forkpty", "pid = os.forkpty()[0]"},
                                       {"libc_fork", "pid = libc.fork()"},
                                       {"vfork", "pid = libc.syscall(58)"},
                                       {"raw_fork", "pid = libc.syscall(57)"},
                                       {"raw_clone", "pid = libc.syscall(56, 17, 0, 0, 0, 0)"},
                                       {"clone3",
                                        "a = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17)\n"
                                        "pid = libc.syscall(435, a, 88)"}};
  for (const Variation& way : ways) {
    const std::string fork = Replaced(way.text, "\n", "\n    ");
    f.Add("fork_bomb",
          "for i in range(2000):\n  try:\n    " + fork +
              "\n    if pid == 0: trespass('child'); time.sleep(60)\n  except OSError: pass\n",
          {{way.name, ""}});
    f.Add("daemon",
          way.text +
              "\nif pid == 0:\n  os.setsid()\n  trespass('daemon')\n"
              "  if os.fork() == 0: time.sleep(60)\n",
          {{way.name, ""}});
  }
  f.Add(
      "spawn",
      {{"system", "if os.system('echo hello > $FOLDER/$LITTER') == 0: trespass('system')"},
       {"popen", "if os.popen('echo hello').read(): trespass('popen')"},
       {"subprocess",
        "import subprocess\nsubprocess.Popen(['/bin/sh', '-c', 'sleep 60'])\n"
        "trespass('subprocess')"},
       {"posix_spawn", "os.posix_spawn('/bin/sleep', ['sleep', '60'], {})\ntrespass('spawn')"},
       {"multiprocessing",
        "import multiprocessing as m\np = m.Process(target=time.sleep, "
        "args=(60,))\np.start()\ntrespass('multiprocessing')"},
       {"process_pool",
        "from concurrent.futures import *\n"
        "trespass(list(ProcessPoolExecutor(2).map(abs, [1])))"},
       {"pty", "import pty\npty.spawn('/bin/sh')\ntrespass('pty')"},
       {"setsid", "os.setsid()\ntrespass('setsid')"},
       {"setpgid", "os.setpgid(0, 0)\ntrespass('setpgid')"},
       {"exec_python", "os.execv('/usr/bin/python3', ['python3', '-c', 'print(\"TRESPASS\")'])"},
       {"exec_true", "os.execv('/usr/bin/env', ['env', 'echo', 'TRESPASS'])"},
       {"exec_loader", "os.execv('/lib64/ld-linux-x86-64.so.2', ['ld', '/bin/echo', 'TRESPASS'])"},
       {"exec_mount", "os.execv('/usr/bin/mount', ['mount'])\ntrespass('mount')"},
       {"exec_shell", "os.execv('/bin/sh', ['sh', '-c', 'echo TRESPASS'])"},
       {"exec_setuid", "os.execv('/usr/bin/su', ['su', '-c', 'echo TRESPASS'])"}});
}

void AddThreadsMemoryAndTime(Family& f) {
  f.Add("thread_bomb",
        "threading.stack_size($X)\nwhile True:\n  try: threading.Thread(target=time.sleep, "
        "args=(60,)).start()\n  except RuntimeError: pass\n",
        {{"32k", "32 << 10"}, {"256k", "256 << 10"}, {"8m", "8 << 20"}, {"64m", "64 << 20"}});
  f.Add("memory",
        {{"bytearray", "x = []\nwhile True: x.append(bytearray(16 << 20))"},
         {"list", "x = [0]\nwhile True: x += x"},
         {"string", "x = 'a' * 1000\nwhile True: x += x"},
         {"integer", "x = 3\nwhile True: x *= x"},
         {"mmap",
          "import mmap\nx = []\nwhile True:\n  m = mmap.mmap(-1, 64 << 20)\n"
          "  m[::4096] = b'x' * (len(m) // 4096)\n  x.append(m)"},
         {"shared_mmap",
          "import mmap\nx = []\nwhile True:\n  m = mmap.mmap(-1, 64 << 20, "
          "mmap.MAP_SHARED)\n  m[::4096] = b'x' * (len(m) // 4096)\n  x.append(m)"},
         {"memfd", "fd = os.memfd_create('x')\nos.ftruncate(fd, 1 << 40)\ntrespass('memfd')"},
         {"dev_shm",
          "from multiprocessing.shared_memory import SharedMemory\n"
          "s = SharedMemory('$LITTER', True, 1 << 30)\ntrespass('shm')"},
         {"sysv_shm", "if libc.shmget(0x7e5, 1 << 28, 0o1666) >= 0: trespass('shmget')"},
         {"grow_limits",
          "import resource\nresource.setrlimit(resource.RLIMIT_AS, "
          "(1 << 40, 1 << 40))\ntrespass('rlimit')"}});
  f.Add("time",
        {{"spin", "while True: pass"},
         {"sleep", "time.sleep(3600)"},
         {"power", "9 ** 9 ** 9"},
         {"regex", "import re\nre.match('(a+)+$', 'a' * 64 + 'b')"},
         {"stop_self", "os.kill(os.getpid(), signal.SIGSTOP)"},
         {"ignore_all",
          "for s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n"
          "  except (OSError, ValueError): pass\nwhile True: pass"},
         {"block_all", "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"},
         {"more_cpu",
          "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))\n"
          "trespass('rlimit')"},
         {"deadlock", "l = threading.Lock()\nl.acquire()\nl.acquire()"},
         {"many_spinners",
          "for i in range(8): threading.Thread(target=lambda: [0 for _ in "
          "iter(int, 1)]).start()"},
         {"late_exit", "import atexit\natexit.register(lambda: time.sleep(3600))"}});
  f.Add("output",
        {{"flood", "while True: os.write(1, b'x' * 65536)"},
         {"errors", "while True: os.write(2, b'x' * 65536)"},
         {"both", "while True: os.write(1, b'x' * 9); os.write(2, b'y' * 9)"},
         {"ignored_pipe",
          "signal.signal(signal.SIGPIPE, signal.SIG_IGN)\nwhile True:\n"
          "  try: os.write(1, b'x' * 65536)\n  except OSError: pass"},
         {"long_line", "sys.stdout.write('x' * (200 << 20))"},
         {"binary", "while True: sys.stdout.buffer.write(os.urandom(65536))"},
         {"pipe_size", "import fcntl\nfcntl.fcntl(1, 1031, 1 << 20)\ntrespass('pipe size')"},
         {"held_open", "d = [os.dup(1) for i in range(20)]\ntime.sleep(3600)"},
         {"nonblocking",
          "os.set_blocking(1, False)\nwhile True:\n  try: os.write(1, b'x' * 4096)\n"
          "  except BlockingIOError: pass"}});
  f.Add("descriptors",
        "held = []\nwhile True:\n  try: held.append($X)\n  except OSError: break\n"
        "if len(held) > 500: trespass(len(held))\n",
        {{"open", "os.open('/usr/bin', os.O_RDONLY)"},
         {"dup", "os.dup(0)"},
         {"pipe", "os.pipe()"},
         {"eventfd", "os.eventfd(0)"}});
}

void AddFiles(Family& f) {
  const std::vector<Variation> places = {{"scratch", "."},
                                         {"tmp", "/tmp"},
                                         {"shm", "/dev/shm"},
                                         {"var_tmp", "/var/tmp"},
                                         {"root", "/"},
                                         {"usr", "/usr"},
                                         {"canary", "$FOLDER"},
                                         {"up", "../../../../$FOLDER"},
                                         {"proc", "/proc/self/cwd"},
                                         {"dev", "/dev"}};
  f.Add("disk",
        "total = 0\nfor i in range(100):\n  with open('$X/$LITTER' + str(i), 'wb') as file:\n"
        "    for j in range(64):\n      total += file.write(b'x' * (1 << 20))\n"
        "      file.flush()\n      if total > 64 << 20: trespass(total)\n",
        places);
  f.Add("inodes",
        "for i in range(20000):\n  os.close(os.open('$X/$LITTER' + str(i), os.O_CREAT))\n"
        "  if i > 5000: trespass(i)\n",
        places);
  f.Add("sparse",
        "fd = os.open('$X/$LITTER', os.O_CREAT | os.O_RDWR)\nos.ftruncate(fd, 1 << 40)\n"
        "trespass('sparse')\n",
        places);
  f.Add("link_out", "os.symlink('$SECRET_FILE', '$X/$LITTER')\ntrespass('symlink')\n", places);
  f.Add("fifo", "os.mkfifo('$X/$LITTER')\ntrespass('fifo')\n", places);
  f.Add("special",
        {{"deep", "for i in range(10000):\n  os.mkdir('d')\n  os.chdir('d')\ntrespass('deep')"},
         {"fifo", "os.mkfifo('$LITTER')\ntrespass('fifo')"},
         {"symlink", "os.symlink('$SECRET_FILE', '$LITTER')\ntrespass('symlink')"},
         {"hardlink", "os.link('$SECRET_FILE', '$LITTER')\ntrespass('link')"},
         {"device", "os.mknod('$LITTER', 0o60666, os.makedev(259, 0))\ntrespass('device')"},
         {"socket",
          "import socket\nsocket.socket(socket.AF_UNIX).bind('$LITTER')\n"
          "trespass('bound')"},
         {"lock",
          "import fcntl\nfcntl.flock(os.open('/usr/bin', 0), fcntl.LOCK_EX)\n"
          "trespass('lock')"},
         {"posix_lock",
          "import fcntl\nfcntl.lockf(os.open('/usr/bin/python3', 0), fcntl.LOCK_SH)\n"
          "trespass('lock')"},
         {"setuid_bit",
          "os.close(os.open('s', os.O_CREAT))\nos.chmod('s', 0o6755)\n"
          "trespass('chmod')"}});
  f.Add("read", "data = open('$X', 'rb').read(200)\ntrespass(data)\n",
        {{"secret", "$SECRET_FILE"},
         {"dotdot", "../../../..$SECRET_FILE"},
         {"proc_root", "/proc/self/root$SECRET_FILE"},
         {"mem", "/proc/self/mem"},
         {"environ", "/proc/self/environ"},
         {"maps", "/proc/self/maps"},
         {"init_environ", "/proc/1/environ"},
         {"judge_environ", "/proc/$JUDGE_PID/environ"},
         {"judge_mem", "/proc/$JUDGE_PID/mem"},
         {"judge_cmdline", "/proc/$JUDGE_PID/cmdline"},
         {"passwd", "/etc/passwd"},
         {"shadow", "/etc/shadow"},
         {"net", "/proc/net/tcp"},
         {"cgroup", "/proc/self/cgroup"},
         {"kmsg", "/dev/kmsg"},
         {"disk", "/dev/vda"},
         {"memory", "/dev/mem"},
         {"kvm", "/dev/kvm"},
         {"fuse", "/dev/fuse"},
         {"tty", "/dev/tty"},
         {"ptmx", "/dev/ptmx"},
         {"hostname", "/etc/hostname"},
         {"kallsyms", "/proc/kallsyms"},
         {"sys", "/sys/kernel/notes"},
         {"machine_id", "/etc/machine-id"}});
  f.Add("list", "names = os.listdir('$X')\nif names: trespass(names)\n",
        {{"canary", "$FOLDER"},
         {"proc", "/proc"},
         {"root_home", "/root"},
         {"home", "/home"},
         {"etc", "/etc"},
         {"sys", "/sys"},
         {"run", "/run"},
         {"fds", "/proc/self/fd"},
         {"judge_fds", "/proc/$JUDGE_PID/fd"},
         {"work", "/work"}});
  f.Add("change", "$X\ntrespass('changed')\n",
        {{"overwrite", "open('$SECRET_FILE', 'w').write('gone')"},
         {"truncate", "os.truncate('$SECRET_FILE', 0)"},
         {"remove", "os.remove('$SECRET_FILE')"},
         {"rename", "os.rename('$SECRET_FILE', '$FOLDER/$LITTER')"},
         {"chmod", "os.chmod('$SECRET_FILE', 0)"},
         {"utime", "os.utime('$SECRET_FILE')"},
         {"chown", "os.chown('$SECRET_FILE', 1, 1)"},
         {"xattr", "os.setxattr('$SECRET_FILE', 'user.x', b'x')"},
         {"mkdir", "os.mkdir('$FOLDER/$LITTER')"},
         {"mkdir_usr", "os.mkdir('/usr/$LITTER')"},
         {"program", "os.pwrite(3, b'x', 0)"},
         {"input", "os.pwrite(0, b'x', 0)"},
         {"grow_input", "os.ftruncate(0, 1 << 20)"}});
}

void AddProcessesOutside(Family& f) {
  const std::vector<Variation> victims = {{"parent", "os.getppid()"},
                                          {"judge", "$JUDGE_PID"},
                                          {"all", "-1"},
                                          {"init", "1"},
                                          {"group", "0"},
                                          {"judge_group", "-$JUDGE_PID"}};
  for (const char* name : {"SIGKILL", "SIGSTOP", "SIGUSR1", "SIGTERM", "SIGCONT", "SIGXCPU"}) {
    f.Add(std::string("signal_") + name,
          std::string("os.kill($X, signal.") + name + ")\ntrespass('sent')\n", victims);
  }
  f.Add("meddle", "if libc.syscall($X) >= 0: trespass('meddled')\n",
        {{"ptrace_parent", "101, 16, os.getppid(), 0, 0"},
         {"ptrace_judge", "101, 16, $JUDGE_PID, 0, 0"},
         {"ptrace_me", "101, 0, 0, 0, 0"},
         {"seize", "101, 0x4206, $JUDGE_PID, 0, 0"},
         {"read_memory", "310, $JUDGE_PID, 0, 0, 0, 0, 0"},
         {"write_memory", "311, $JUDGE_PID, 0, 0, 0, 0, 0"},
         {"pidfd", "434, $JUDGE_PID, 0"},
         {"limits", "302, $JUDGE_PID, 7, 0, 0"},
         {"tgkill", "234, $JUDGE_PID, $JUDGE_PID, 9"},
         {"tkill", "200, $JUDGE_PID, 9"},
         {"sigqueue", "129, $JUDGE_PID, 9, 0"},
         {"death_signal", "157, 1, 0, 0, 0, 0"},
         {"affinity", "203, $JUDGE_PID, 8, 0"},
         {"priority", "141, 0, 0, -20"},
         {"scheduler", "144, 0, 1, 0"},
         {"dumpable", "157, 4, 1, 0, 0, 0"}});
}

void AddNetwork(Family& f) {
  const std::string open = "import socket\ns = socket.socket($X)\ntrespass('socket')\n";
  f.Add("socket", open,
        {{"tcp", "socket.AF_INET, socket.SOCK_STREAM"},
         {"udp", "socket.AF_INET, socket.SOCK_DGRAM"},
         {"raw", "socket.AF_INET, socket.SOCK_RAW, 1"},
         {"icmp", "socket.AF_INET, socket.SOCK_DGRAM, 1"},
         {"tcp6", "socket.AF_INET6, socket.SOCK_STREAM"},
         {"udp6", "socket.AF_INET6, socket.SOCK_DGRAM"},
         {"sctp", "socket.AF_INET, socket.SOCK_STREAM, 132"},
         {"unix", "socket.AF_UNIX, socket.SOCK_STREAM"},
         {"unix_dgram", "socket.AF_UNIX, socket.SOCK_DGRAM"},
         {"packet", "17, socket.SOCK_RAW, 0"},
         {"netlink", "socket.AF_NETLINK, socket.SOCK_RAW, 0"},
         {"vsock", "40, socket.SOCK_STREAM, 0"},
         {"alg", "38, socket.SOCK_SEQPACKET, 0"},
         {"xdp", "44, socket.SOCK_RAW, 0"},
         {"bluetooth", "31, socket.SOCK_RAW, 0"},
         {"can", "29, socket.SOCK_RAW, 1"},
         {"rds", "21, socket.SOCK_SEQPACKET, 0"},
         {"tipc", "30, socket.SOCK_STREAM, 0"}});
  f.Add(
      "connect",
      {{"tcp",
        "import socket\nsocket.create_connection(('127.0.0.1', $TCP_PORT), 1).send(b'x')\n"
        "trespass('tcp')"},
       {"udp",
        "import socket\nsocket.socket(2, 2).sendto(b'x', ('127.0.0.1', $UDP_PORT))\n"
        "trespass('udp')"},
       {"unix", "import socket\ns = socket.socket(1)\ns.connect('$UNIX_SOCKET')\ntrespass('unix')"},
       {"abstract",
        "import socket\ns = socket.socket(1)\ns.connect('\\0$ABSTRACT')\n"
        "trespass('abstract')"},
       {"name", "import socket\ntrespass(socket.getaddrinfo('example.org', 80))"},
       {"http",
        "import urllib.request\n"
        "trespass(urllib.request.urlopen('http://127.0.0.1:$TCP_PORT/', timeout=1))"},
       {"listen", "import socket\ns = socket.create_server(('127.0.0.1', 0))\ntrespass('listens')"},
       {"pair", "import socket\nsocket.socketpair()\ntrespass('pair')"}});
}

}  // namespace

std::vector<Attack> PythonAttacks(const Targets& targets) {
  std::vector<Attack> attacks;
  Family family(targets, attacks);
  AddProcesses(family);
  AddThreadsMemoryAndTime(family);
  AddFiles(family);
  AddProcessesOutside(family);
  AddNetwork(family);
  return attacks;
}

}  // namespace tramontane
