//! Synthetic participants at work: the load tester `weir-loadtest`, and the demo `weir-demo`.
//!
//! ```text
//! cli ► scenario ► plan ─┐
//!        machine, site ──┼─► engine ► report (table, JSON, HTML)
//!       (child, network) │     └ sample: the focus's process and metrics, once a second
//!             criteria ──┘
//! ```
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line and what it means |
//! | [`scenario`], [`plan`] | who joins when and wants what; pure |
//! | [`fault`], [`machine`] | what keeps a run from beginning, in one line |
//! | [`site`], [`child`], [`network`] | homeserver, focus, rooms; the focus, or any server, as a child process; a bad network |
//! | [`engine`], [`sample`] | performs a plan and looks at everything once a second |
//! | [`criteria`] | when a ramp ends, and whether the generator keeps up; pure |
//! | [`report`] | what was found: data, table, page |
//! | [`perform`] | one run from options to exit code |
//! | [`choosing`] | foci at distances, and who chooses between them |
//! | [`program`] | log, threads, signals and progress of the programs |
//! | [`stage`], [`gather`] | the demo: everything in one process, or several foci beside it; what these say of who is connected where |
//! | [`verdict`], [`table`] | the demo: whether everybody receives everybody, and what |

pub mod child;
pub mod choosing;
pub mod cli;
pub mod criteria;
pub mod engine;
pub mod fault;
pub mod gather;
pub mod machine;
pub mod network;
pub mod perform;
pub mod plan;
pub mod program;
pub mod report;
pub mod sample;
pub mod scenario;
pub mod site;
pub mod stage;
pub mod table;
pub mod verdict;
