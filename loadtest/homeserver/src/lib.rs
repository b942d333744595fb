//! An embedded homeserver: the part of the Client-Server API that calls need, in memory.
