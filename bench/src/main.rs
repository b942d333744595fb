//! What the packet path costs: its parts, the whole of it from socket to sockets, and what the kernel alone costs for the same
//! sends. `docs/performance.md` says how to read the figures.

mod audience;
mod cli;
mod fanout;
mod floor;
mod kernel;
mod micro;
mod participant;
mod report;
mod source;

fn main() -> anyhow::Result<()> {
    cli::run()
}
