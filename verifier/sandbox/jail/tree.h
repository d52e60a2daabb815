// The files that a program is started among.
#pragma once

#include <string>

namespace tramontane {

// Writes the packed tree in `fd` (a sequence of TreeEntry, jail_wire.h) below `folder`, which is
// empty and which nobody else can write to: it happens before the program starts. False, with
// errno: the tree makes no sense (EINVAL, EEXIST) or the folder is too small for it.
bool PlantTree(int fd, const std::string& folder);

}  // namespace tramontane
