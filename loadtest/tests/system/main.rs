//! A real focus between an embedded homeserver and real clients, all in one process: nothing is replaced by a double. Needs
//! io_uring, like the focus.
//!
//! The tests run one after the other, whatever the test harness says: each has a call with decoders, and two at a time would
//! measure the machine. That is also why this is one binary.
//!
//! | file | what it shows |
//! |---|---|
//! | `appservice` | the focus as an application service of a real Synapse |
//! | `call` | a call from join to leave |
//! | `cascade` | participants at several foci, and the trunks between these |
//! | `choosing` | foci at distances, and those who choose between them |
//! | `encrypted` | calls whose to-device messages are encrypted |
//! | `hostile` | what somebody who means no good can do to others: nothing |
//! | `homeserver_away` | a call while the homeserver is gone |
//! | `prometheus` | what a scrape gets, and a real Prometheus makes of it |
//! | `site`, `synapse`, `caller` | what they run on; no tests |

mod appservice;
mod call;
mod caller;
mod cascade;
mod choosing;
mod encrypted;
mod homeserver_away;
mod hostile;
mod prometheus;
mod site;
mod synapse;
