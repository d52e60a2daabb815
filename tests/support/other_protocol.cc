// Linked into a program, its own objects come before services/protocol_version.cc of the library:
// the program is then a real peer of another protocol.
#include "services/handshake.h"

namespace tramontane {

const uint32_t kProtocolVersion = 41;

}  // namespace tramontane
