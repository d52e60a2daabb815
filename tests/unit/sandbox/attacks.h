// Hostile programs: each truly attempts what its name says and, where it succeeds, writes
// "TRESPASS" to its output. Generated from families, so that a new trick is one more line.
#pragma once

#include <string>
#include <vector>

namespace tramontane {

// Places outside the jail that a program may try to reach; canaries.h watches them.
struct Targets {
  std::string folder;       // everybody may write here
  std::string secret_file;  // everybody may read this
  std::string secret;       // its content, also in the environment of the process that judges
  std::string unix_socket, abstract_socket;
  int tcp_port = 0, udp_port = 0;
  int pid = 0;  // of the process that judges
};

struct Attack {
  std::string name;  // "family/variation"
  std::string language;
  std::string source;
  bool must_die_by_signal = false;  // the kernel ends it, whatever it tries
};

inline constexpr char kTrespass[] = "TRESPASS";
// Part of the name of every file, shared memory and socket that attacks try to leave behind.
inline constexpr char kLitter[] = "trespass-litter";

std::vector<Attack> PythonAttacks(const Targets& targets);
std::vector<Attack> SystemCallAttacks(const Targets& targets);
std::vector<Attack> CxxAttacks(const Targets& targets);

}  // namespace tramontane
