//! Said in words: the data channel's messages, stream metadata and SDP. No I/O.
