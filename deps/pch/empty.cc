// A library needs one unit; this one only carries a precompiled header.
