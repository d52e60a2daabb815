// A unit of its own: a test's program that defines another number (tests/support/other_protocol.cc)
// links without this one, and is a real peer of another protocol.
#include "services/handshake.h"

namespace tramontane {

const uint32_t kProtocolVersion = 1;

}  // namespace tramontane
