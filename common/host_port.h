// "host:port" taken apart.
#pragma once

#include <string>

namespace tramontane {

// Everything before the last colon; an IPv6 host keeps its brackets.
inline std::string HostOf(const std::string& address) { return address.substr(0, address.rfind(':')); }

}  // namespace tramontane
