//! What measurements of this folder have in common: the network, the cores, and what is made of samples. The packet path itself is
//! measured by the binary `weir-bench`, whole servers by `weir-peers`.

pub mod machine;
pub mod network;
pub mod statistics;
pub mod table;
