//! What is looked at once a second while a scenario runs: the focus from outside, the generator from inside.
//!
//! | file | what it reads |
//! |---|---|
//! | `process` | `/proc/PID`: CPU per thread, memory, open files |
//! | `scrape` | `/metrics` of the focus |
//! | `trend` | whether something grows; pure |

pub mod process;
pub mod scrape;
pub mod trend;
