//! The rules of one core: datagrams, commands and the time in; datagrams, events and the next deadline out.
